// Calls a URL with the https module of a node of that time, which verifies by the CA that it is given.
var fs = require('fs'), https = require('https'), url = require('url').parse(process.argv[2]);
https.request({
    host: url.hostname, port: url.port, path: url.path, auth: process.argv[3], agent: false,
    ca: [fs.readFileSync(process.argv[4])], rejectUnauthorized: true
}, function (answer) {
    console.log(answer.statusCode);
    answer.on('data', function () {});
}).end();
