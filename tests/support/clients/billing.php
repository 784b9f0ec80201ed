<?php
// A billing run, as PHP with curl does it: one handle for all calls, and Basic in the parentheses of
// v1's documentation. It knows v1 only. Prints a line a call: its name, the status, what it read.

$base = getenv('HARVEST_URL');
$basic = base64_encode(getenv('HARVEST_LOGIN') . ':' . getenv('HARVEST_PASSWORD'));
$headers = ["Authorization: Basic ($basic)", 'Accept: application/xml', 'Content-Type: application/xml'];

$location = '';
$curl = curl_init();
curl_setopt_array($curl, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_USERAGENT => 'PHP Wrapper Library for Harvest API',
    CURLOPT_HTTPHEADER => $headers,
    CURLOPT_HEADERFUNCTION => function ($_, $line) use (&$location) {
        if (strpos($line, 'Location:') === 0) {
            $location = trim(substr($line, strlen('Location:')));
        }
        return strlen($line);
    },
]);

function call($method, $path, $body = null)
{
    global $curl, $base, $location;
    $location = '';
    curl_setopt_array($curl, [
        CURLOPT_URL => $base . $path,
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_POSTFIELDS => $body ?? '',
    ]);
    $answer = curl_exec($curl);
    if ($answer === false) {
        fwrite(STDERR, curl_error($curl) . "\n");
        exit(1);
    }
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    return [$status, $status < 300 && trim($answer) !== '' ? new SimpleXMLElement($answer) : null];
}

function made()
{
    global $location;
    return substr($location, strrpos($location, '/') + 1);
}

$message = '<invoice-message><subject>Your invoice</subject><body>Thank you &amp; goodbye</body>'
    . '<recipients>' . htmlspecialchars('Jane Doe <jane@doe.org>') . '</recipients></invoice-message>';
$payment = '<payment><amount type="decimal">1.50</amount><notes>Wire</notes></payment>';

foreach (array_slice($argv, 1) as $step) {
    switch ($step) {
        case 'list':
            [$status, $xml] = call('GET', '/invoices/1420/messages');
            $read = $xml ? count($xml->{'invoice-message'}) : '';
            break;
        case 'show':
            [$status, $xml] = call('GET', '/invoices/1420/messages/409');
            $read = $xml ? $xml->body : '';
            break;
        case 'send':
            [$status] = call('POST', '/invoices/1420/messages', $message);
            $read = made();
            break;
        case 'payments':
            [$status, $xml] = call('GET', '/invoices/1420/payments');
            $read = $xml ? count($xml->payment) : '';
            break;
        case 'pay':
            [$status] = call('POST', '/invoices/1420/payments', $payment);
            $read = made();
            break;
        case 'clients':
            [$status, $xml] = call('GET', '/clients');
            $read = $xml ? $xml->client[0]->name : '';
            break;
    }
    echo "$step\t$status\t$read\n";
}
