-- Asks for one invoice after another, and counts what is answered once all is warm.
-- Arguments: method, path, body (both with {id}), first id, how many ids (0: no end), how many
-- connections there are, and the seconds until all is warm.

local ffi = require("ffi")
ffi.cdef([[
  typedef struct { long seconds; long microseconds; } bench_time;
  int gettimeofday(bench_time *now, void *zone);
]])
local clock = ffi.new("bench_time")
local threads = {}

local function now()
  ffi.C.gettimeofday(clock, nil)
  return tonumber(clock.seconds) + tonumber(clock.microseconds) / 1e6
end

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  method, path, body = arguments[1], arguments[2], arguments[3]
  first, span = tonumber(arguments[4]), tonumber(arguments[5])
  connections, warm = tonumber(arguments[6]), tonumber(arguments[7])
  asked = -1 -- wrk asks once to see what it gets
  counted, seconds = 0, 0
  if body ~= "" then
    wrk.headers["Content-Type"] = "application/xml"
  end
end

-- A connection asks again when it has been answered, so what is asked tells what was answered. A
-- slow server may answer all connections in a burst and then none for seconds: time is taken from
-- the end of one round of answers to that of a later one, which is right for bursts as well.
function request()
  local at, answered = now(), asked - connections + 1
  started = started or at
  asked = asked + 1
  if answered > 0 and answered % connections == 0 and at - started >= warm then
    began, before = began or at, before or answered
    counted, seconds = answered - before, at - began
  end
  local id = string.format("%.0f", first + (span > 0 and asked % span or asked))
  if body == "" then
    return wrk.format(method, (path:gsub("{id}", id)))
  end
  return wrk.format(method, (path:gsub("{id}", id)), nil, (body:gsub("{id}", id)))
end

function done(summary, latency)
  local thread, errors = threads[1], summary.errors
  io.write(string.format(
    '\n{"counted": %d, "seconds": %.6f, "answered": %d, "failed": %d, "median": %.0f, "p99": %.0f}\n',
    thread:get("counted"), thread:get("seconds"), summary.requests,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)
  ))
end
