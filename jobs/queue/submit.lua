-- Create jobs that are not there yet, each whole or not at all; one that exists is left as it is.
-- a.jobs: per job id, lane, batch where there is one, held where it waits until it is let go (place.lua), and the
-- number of values of its record; these follow
-- as they are in ARGV[2] and on, field and value in turn: packed data is no text, and JSON holds nothing else.
-- a.due: they wait until then, seconds since 1970; or a.after: for so many seconds from now, by this server's clock.
-- Returns one flag per job: 1 created, 0 existed.

-- A neighbouring key of the wrong type must neither block nor half-write a job.
local queues = redis.call('TYPE', key.QUEUES).ok
if queues ~= 'set' and queues ~= 'none' then
  return redis.error_reply(key.QUEUES .. ' is a ' .. queues .. ', not the set of all queues; delete it')
end
local due
if a.due or a.after then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
  due = a.after and now + a.after or a.due
  if due <= now then due = nil end
end
local created, told, at = {}, {}, 2
for i, job in ipairs(a.jobs) do
  local record, queue = key.JOB(job.id), key.QUEUE(job.lane)
  local bell = key.BELL(string.match(job.lane, '^kiln:([^:]+)'))
  if redis.call('EXISTS', record) == 1 then
    created[i] = 0
  else
    local first = not told[job.lane] -- of this call in its lane
    if first then
      guard.become(queue, 'list')
      guard.become(bell, 'list')
    end
    redis.call('HSET', record, unpack(ARGV, at, at + job.values - 1))
    if first then redis.call('SADD', key.QUEUES, queue) end
    if job.held then
      guard.become(key.DEFERRED(job.lane), 'zset')
      redis.call('ZADD', key.DEFERRED(job.lane), '+inf', job.id)
      if due then redis.call('HSET', record, 'kiln_until', due + job.number / 1000000) end
    elseif due then
      guard.become(key.SCHEDULED(job.lane), 'zset')
      redis.call('HSET', record, 'status', 'scheduled')
      redis.call('ZADD', key.SCHEDULED(job.lane), due + job.number / 1000000, job.id) -- in their order, then
    else
      redis.call('RPUSH', queue, job.id)
    end
    if job.batch then
      guard.become(key.GROUP(job.batch), 'set')
      guard.become(key.GROUPS, 'set')
      redis.call('SADD', key.GROUP(job.batch), job.id)
      redis.call('SADD', key.GROUPS, job.batch)
    end
    -- One ring per job, at most: an idle worker takes a ring, then jobs until there are none.
    if not job.held then redis.call('LPUSH', bell, '1') end
    redis.call('LTRIM', bell, 0, 63)
    if first then guard.mail(job.lane) end
    told[job.lane] = true
    created[i] = 1
  end
  at = at + job.values
end
return created
