-- Create jobs that are not there yet, each whole or not at all; one that exists is left as it is.
-- ARGV: count, then per job: id, lane, bell, batch or '', number of hash fields, and the fields.
-- Returns one flag per job: 1 created, 0 existed.

-- What became another type beside a job must not keep it out, least of all once its record is written.
-- No DEL without need: a script's first write is where a full Redis refuses it, and DEL it would let pass.
local function become(key, kind)
  local there = redis.call('TYPE', key).ok
  if there ~= kind and there ~= 'none' then redis.call('DEL', key) end
end

local queues = redis.call('TYPE', 'rq:queues').ok
if queues ~= 'set' and queues ~= 'none' then
  return redis.error_reply('rq:queues is a ' .. queues .. ', not the set of all queues; delete it')
end
local created = {}
local at = 2
for i = 1, tonumber(ARGV[1]) do
  local id, lane, bell, batch, n = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local record = 'rq:job:' .. id
  if redis.call('EXISTS', record) == 1 then
    created[i] = 0
  else
    become('rq:queue:' .. lane, 'list')
    become(bell, 'list')
    redis.call('HSET', record, unpack(ARGV, at + 5, at + 4 + n))
    redis.call('SADD', 'rq:queues', 'rq:queue:' .. lane)
    redis.call('RPUSH', 'rq:queue:' .. lane, id)
    if batch ~= '' then
      become('rq:group:' .. batch, 'set')
      become('rq:groups', 'set')
      redis.call('SADD', 'rq:group:' .. batch, id)
      redis.call('SADD', 'rq:groups', batch)
    end
    -- One ring per job, at most: an idle worker takes a ring, then jobs until there are none.
    redis.call('LPUSH', bell, '1')
    redis.call('LTRIM', bell, 0, 63)
    created[i] = 1
  end
  at = at + 5 + n
end
return created
