-- Requests from a file of targets, one a line, each with the method and body that the environment says.
local method = os.getenv("S3_METHOD")
local targets = {}
for line in io.lines(os.getenv("S3_TARGETS")) do targets[#targets + 1] = line end
local body = method == "PUT" and string.rep("r", tonumber(os.getenv("S3_BYTES"))) or nil
local threads, refused, shown = {}, 0, nil

function setup(thread)
    thread:set("number", #threads)
    table.insert(threads, thread)
end

function init()
    position = number * math.floor(#targets / 2)
end

function request()
    position = position % #targets + 1
    return wrk.format(method, targets[position], nil, body)
end

function response(status)
    if status ~= 200 then failed = (failed or 0) + 1 end
end

function done(summary, latency)
    for _, thread in ipairs(threads) do refused = refused + (thread:get("failed") or 0) end
    print(string.format('RESULT {"rate": %.1f, "refused": %d, "p50_ms": %.3f, "p99_ms": %.3f}',
        summary.requests / (summary.duration / 1e6), refused, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
