-- wrk: POST /run with a small input; counts what was not answered 200.
wrk.method = "POST"
wrk.body = '{"input":{"prompt":"a small job","steps":20}}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("ROOST_KEY")

local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() refused = 0 end
function response(status) if status ~= 200 then refused = refused + 1 end end
function done(summary, latency)
    local refused = 0
    for _, thread in ipairs(threads) do refused = refused + thread:get("refused") end
    io.write(string.format('RESULT {"rate": %.0f, "p50_ms": %.2f, "p99_ms": %.2f, "refused": %d}\n',
        summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000, latency:percentile(99) / 1000, refused))
end
