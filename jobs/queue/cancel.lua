-- End jobs as cancelled, wherever they are. a: jobs (ids), client or '' for any, stamp, days to keep the records.
-- Returns per job what it was: 'queued', 'started', an end it had reached already, 'unknown' or 'foreign'.

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local keep = a.days * guard.DAY
local ENDED = { finished = true, failed = true, canceled = true, stopped = true }

-- Nobody's from here on. The execution's lease and record stay: whoever renders or delivers the job finds within a
-- beat that it is not his any more, and takes back what its client was charged beyond the time spent; where he is
-- gone, the reaper does. Producers may not write clocks.
local function disown(job, lane)
  local execution = redis.pcall('GET', key.OWNER(job))
  if type(execution) ~= 'string' then return end
  redis.pcall('ZREM', key.STARTED(lane), job .. ':' .. execution)
  redis.pcall('ZREM', key.EXECUTIONS(job), execution)
  redis.call('DEL', key.OWNER(job))
  redis.pcall('PUBLISH', key.CALLS, 'job:' .. job)
end

local function cancel(job, lane, status)
  -- Near the front only, so that a long lane costs no more; further back a take drops what is not queued.
  if type(redis.pcall('LPOS', key.QUEUE(lane), job, 'MAXLEN', 1000)) == 'number' then
    redis.call('LREM', key.QUEUE(lane), 1, job)
  end
  local home = guard.home(lane)
  redis.call('HSET', key.JOB(job), 'status', 'canceled', 'ended_at', a.stamp, 'origin', home)
  redis.call('EXPIRE', key.JOB(job), keep)
  redis.pcall('ZREMRANGEBYSCORE', key.CANCELED(home), 0, math.floor(now))
  redis.pcall('ZADD', key.CANCELED(home), math.floor(now) + keep, job)
  redis.pcall('ZREM', key.DEFERRED(lane), job)
  disown(job, lane)
  -- What is first in the lane now may be older than what was.
  if status ~= 'started' then guard.mail(lane) end
end

local answers = {}
for i, job in ipairs(a.jobs) do
  local there = redis.call('TYPE', key.JOB(job)).ok == 'hash'
  local status = there and (redis.call('HGET', key.JOB(job), 'status') or 'queued')
  local lane = there and redis.call('HGET', key.JOB(job), 'origin') or ''
  local _, _, client = guard.parts(lane)
  if not status or not client then -- not there, or another application's
    answers[i] = 'unknown'
  elseif a.client ~= '' and client ~= a.client then
    answers[i] = 'foreign'
  else
    if not ENDED[status] then cancel(job, lane, status) end
    answers[i] = (ENDED[status] or status == 'started') and status or 'queued'
  end
end
return answers
