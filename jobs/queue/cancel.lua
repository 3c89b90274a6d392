-- End jobs as cancelled, wherever they are. ARGV: stamp, client or '' for any, days to keep, then job ids.
-- Returns per job what it was: 'queued', 'started', an end it had reached already, 'unknown' or 'foreign'.
local stamp, mine, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]) * 86400
local now = tonumber(redis.call('TIME')[1])
local ENDED = { finished = true, failed = true, canceled = true, stopped = true }
local answers = {}
for i = 4, #ARGV do
  local job = ARGV[i]
  local record = 'rq:job:' .. job
  local status = redis.call('TYPE', record).ok == 'hash' and (redis.call('HGET', record, 'status') or 'queued')
  local lane = redis.pcall('HGET', record, 'origin')
  lane = type(lane) == 'string' and lane or ''
  local client = string.match(lane, '^kiln:[^:]+:[^:]+:[^:]+:([^:]+)$')
  if not status or not client then -- not there, or another application's
    answers[#answers + 1] = 'unknown'
  elseif mine ~= '' and client ~= mine then
    answers[#answers + 1] = 'foreign'
  else
    if not ENDED[status] then
      -- Near the front only, so that a long lane costs no more; further back a take drops what is not queued.
      if type(redis.pcall('LPOS', 'rq:queue:' .. lane, job, 'MAXLEN', 1000)) == 'number' then
        redis.call('LREM', 'rq:queue:' .. lane, 1, job)
      end
      redis.call('HSET', record, 'status', 'canceled', 'ended_at', stamp)
      redis.call('EXPIRE', record, keep)
      redis.pcall('ZREMRANGEBYSCORE', 'rq:canceled:' .. lane, 0, now)
      redis.pcall('ZADD', 'rq:canceled:' .. lane, now + keep, job)
      redis.pcall('ZREM', 'rq:deferred:' .. lane, job)
      -- Whoever renders or delivers it finds within a beat that it is not his any more; told, at once.
      local execution = redis.pcall('GET', 'kiln:own:' .. job)
      if type(execution) == 'string' then
        redis.pcall('ZREM', 'kiln:leases', job .. ':' .. execution)
        redis.pcall('ZREM', 'rq:wip:' .. lane, job .. ':' .. execution)
        redis.pcall('ZREM', 'rq:executions:' .. job, execution)
        redis.call('DEL', 'kiln:own:' .. job, 'rq:execution:' .. job .. ':' .. execution, 'kiln:taken:' .. execution)
        redis.pcall('PUBLISH', 'kiln:calls', 'job:' .. job)
      end
    end
    answers[#answers + 1] = (ENDED[status] or status == 'started') and status or 'queued'
  end
end
return answers
