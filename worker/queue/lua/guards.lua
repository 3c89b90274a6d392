-- Who owns a job, decided on the server in one step: what the operations on claims share, on top of
-- jobs/queue/guards.lua.
--
-- A claim is a lease on a job, held by an execution. The execution's id is the fencing token: key.OWNER(job) names
-- the one that holds the job, and only take, adopt, leave, release, reap (and settling) change it. key.LEASES has
-- when each lease runs out, by this server's clock.
--
-- The rest are RQ's own records in RQ's own form, so that its tools show what happens.

local claim = {}

local time = redis.call('TIME')
claim.now = tonumber(time[1]) + tonumber(time[2]) / 1000000

guard.become(key.LEASES, 'zset')
guard.become(key.CLOCKS, 'hash')
guard.become(key.NOW, 'string')

function claim.status(job)
  local status = guard.field(job, 'status', 32)
  if status ~= '' then return status end -- nil where the record is none
  return redis.call('EXISTS', key.JOB(job)) == 1 and 'queued' or nil -- taken, to be failed with a reason
end

function claim.number_at(name, field)
  local number = tonumber(guard.short(name, field, 64) or '') or 0
  return number >= 0 and number < 2 ^ 53 and number or 0 -- not a NaN, nor what a producer forged below zero
end

function claim.holds(job, execution)
  return guard.owner(job) == execution and claim.status(job) == 'started'
end

-- Write the owner of a started job anew, where a stranger took it away: whom key.OWNER names has no lease on it.
-- All of ours that end an execution take its lease, or change the job's status.
function claim.reown(job, execution)
  if claim.status(job) ~= 'started' then return end
  local owner = guard.owner(job)
  if owner and redis.call('ZSCORE', key.LEASES, job .. ':' .. owner) then return end
  guard.become(key.OWNER(job), 'string')
  redis.call('SET', key.OWNER(job), execution)
end

function claim.count_up(name, field)
  redis.call('HSET', name, field, claim.number_at(name, field) + 1)
end

-- Lives that a job cost lie where producers cannot write: a poison that took its count back would go on for ever.
local function blame(job, field)
  claim.count_up(key.BLAME(job), field)
  redis.call('EXPIRE', key.BLAME(job), 30 * guard.DAY)
end

function claim.ring(lane)
  local bell = key.BELL(string.match(lane, '^kiln:([^:]+):') or '')
  redis.pcall('LPUSH', bell, '1')
  redis.pcall('LTRIM', bell, 0, 63)
end

-- The account of an execution, key.ACCOUNT(job, execution), lies where producers cannot write: of RQ's record of it
-- nothing is trusted. Executions of workers of version 0.1 have none.
-- client, lane, worker; charged: GPU seconds that stand in the client's clock for it; taken: when, by this server's
-- clock; handed: '1' once its picture is rendered.

-- Charge an execution `seconds` in place of what it was charged.
function claim.charge(job, execution, seconds)
  local account = key.ACCOUNT(job, execution)
  local client, charged = unpack(redis.call('HMGET', account, 'client', 'charged'))
  if not client or tonumber(charged) == seconds then return end
  redis.call('HSET', account, 'charged', seconds)
  redis.pcall('HINCRBYFLOAT', key.CLOCKS, client, seconds - tonumber(charged))
  if seconds < tonumber(charged) then redis.pcall('LPUSH', key.MOVED, client) end
end

-- A picture that is rendered, and waits to be encoded or stored, takes no worker down.
function claim.handed(job, execution)
  return redis.call('HGET', key.ACCOUNT(job, execution), 'handed') == '1'
end

-- What a worker tells of its execution. one: job, execution, cost (GPU seconds), handed; nil where there is no news.
function claim.told(one)
  if one.cost then claim.charge(one.job, one.execution, one.cost) end
  local account = key.ACCOUNT(one.job, one.execution)
  if one.handed and redis.call('HGET', account, 'handed') == '0' then redis.call('HSET', account, 'handed', '1') end
end

-- An execution that gives its job back costs its client nothing. One that the job was taken from, by a cancel or a
-- forged status, costs what it had been given by then.
local function close(job, execution)
  local account = key.ACCOUNT(job, execution)
  local charged, taken, handed = unpack(redis.call('HMGET', account, 'charged', 'taken', 'handed'))
  if not charged then return end
  if claim.holds(job, execution) then
    claim.charge(job, execution, 0)
  elseif handed == '0' then
    claim.charge(job, execution, math.min(tonumber(charged), math.max(0, claim.now - tonumber(taken))))
  end
  redis.call('UNLINK', account)
end

-- An execution that ends without a settlement may have left objects in the bucket, and a late request may leave more:
-- see strays.lua.
local function stray(job, execution, lane)
  local _, _, client = guard.parts(lane)
  if not client then return end
  local name = client .. ':' .. job
  guard.become(key.STRAYS, 'hash')
  guard.become(key.SWEEPS, 'zset')
  local before = string.match(redis.call('HGET', key.STRAYS, name) or '', ' .*') or ''
  if not string.find(before, execution, 1, true) then before = string.sub(' ' .. execution .. before, 1, 1024) end
  redis.call('HSET', key.STRAYS, name, string.format('%.3f', claim.now) .. before)
  redis.call('ZADD', key.SWEEPS, claim.now, name)
end

-- Forget an execution: its account, its lease, its ownership and RQ's records of it.
-- Of the worker recorded on the execution, where one is; the caller may be the reaper.
function claim.drop(job, execution, lane, worker)
  close(job, execution)
  local member = job .. ':' .. execution
  local named = guard.short(key.EXECUTION(job, execution), 'worker_name', 256) or ''
  worker = named ~= '' and named or worker
  if redis.call('ZREM', key.LEASES, member) == 1 then stray(job, execution, lane) end
  redis.call('UNLINK', key.EXECUTION(job, execution))
  redis.pcall('ZREM', key.STARTED(lane), member)
  redis.pcall('ZREM', key.EXECUTIONS(job), execution)
  redis.pcall('SREM', key.WORKER_EXECUTIONS(worker), member)
  if guard.owner(job) == execution then redis.call('UNLINK', key.OWNER(job)) end
end

-- Make the job an execution's. c: worker, stamp, lease, estimate.
function claim.own(job, execution, lane, c)
  local before = guard.owner(job)
  if before then claim.drop(job, before, lane, '') end
  local member = job .. ':' .. execution
  for _, registry in ipairs({ key.READY, key.STARTED, key.FINISHED, key.FAILED }) do
    guard.become(registry(lane), 'zset') -- otherwise recording the job's end would raise WRONGTYPE
  end
  guard.become(key.OWNER(job), 'string')
  local _, _, client = guard.parts(lane)
  redis.call('SET', key.OWNER(job), execution)
  redis.call('ZADD', key.LEASES, claim.now + c.lease, member)
  redis.call('HSET', key.ACCOUNT(job, execution), 'client', client, 'lane', lane, 'worker', c.worker,
    'charged', c.estimate, 'taken', claim.now, 'handed', '0')
  redis.call('EXPIRE', key.ACCOUNT(job, execution), 30 * guard.DAY) -- where a worker of version 0.1 ends it
  redis.call('HSET', key.JOB(job), 'status', 'started', 'started_at', c.stamp, 'last_heartbeat', c.stamp,
    'worker_name', c.worker, 'ended_at', '', 'origin', lane)
  redis.call('PERSIST', key.JOB(job))
  -- No expiry: after days off, reap reads the lane.
  redis.call('HSET', key.EXECUTION(job, execution), 'id', execution, 'job_id', job, 'created_at', claim.now,
    'last_heartbeat', claim.now, 'worker_name', c.worker, 'lane', lane)
  redis.pcall('ZADD', key.EXECUTIONS(job), claim.now + guard.DAY, execution)
  redis.pcall('EXPIRE', key.EXECUTIONS(job), guard.DAY)
  redis.pcall('ZADD', key.STARTED(lane), claim.now + guard.DAY, member)
  redis.pcall('SADD', key.WORKER_EXECUTIONS(c.worker), member)
  redis.pcall('EXPIRE', key.WORKER_EXECUTIONS(c.worker), guard.DAY)
end

-- End an execution and mark its job as waiting in `lane`, without putting it there.
function claim.unown(job, execution, from, lane, worker)
  claim.drop(job, execution, from, worker)
  redis.call('HSET', key.JOB(job), 'status', 'queued', 'started_at', '', 'worker_name', '', 'origin', lane)
  redis.call('HDEL', key.JOB(job), 'meta')
  guard.become(key.QUEUE(lane), 'list')
  redis.call('SADD', key.QUEUES, key.QUEUE(lane))
end

-- Put the job back at the front of its lane. `field` counts a crash or a lapsed lease; a voluntary release
-- counts nothing.
function claim.give_back(job, execution, lane, worker, field)
  claim.unown(job, execution, lane, lane, worker)
  if field then blame(job, field) end
  redis.call('LPUSH', key.QUEUE(lane), job)
  guard.mail(lane)
  claim.ring(lane)
end

function claim.lives(job) -- those it cost, proven or not
  return claim.number_at(key.BLAME(job), 'crashes') + claim.number_at(key.BLAME(job), 'lapses')
end

-- Its worker died ('crashes') or fell silent ('lapses'): back it goes, unless that was once too often,
-- with those `before`. Then it stays owned, to be failed.
function claim.crash(job, execution, lane, worker, field, before, allowed)
  if claim.handed(job, execution) then
    claim.give_back(job, execution, lane, worker)
    return 'back'
  end
  if before + 1 < allowed then
    claim.give_back(job, execution, lane, worker, field)
    return 'back'
  end
  blame(job, field)
  redis.call('ZADD', key.LEASES, claim.now + 30, job .. ':' .. execution)
  return 'blamed'
end

-- What RQ lets a producer ask for and no worker of ours does, by the field of the record: docs/wire.md has why.
local UNHEEDED = { success_callback_name = 'on_success', failure_callback_name = 'on_failure',
  stopped_callback_name = 'on_stopped', webhooks = 'webhooks', retries_left = 'retry', repeats_left = 'repeat',
  meta = 'meta' }

-- Tell of it in the record, which `kiln status` shows; before the first heartbeat, which writes `meta`.
function claim.tell_unheeded(job)
  local names = {}
  local function asked(field) return redis.call('HSTRLEN', key.JOB(job), field) > 0 end
  for field, name in pairs(UNHEEDED) do
    if asked(field) then names[#names + 1] = name end
  end
  if asked('kiln_due') and asked('dependency_ids') then names[#names + 1] = 'depends_on' end
  if #names == 0 then return end
  table.sort(names)
  redis.call('HSET', key.JOB(job), 'kiln_unheeded', table.concat(names, ','))
end

-- What a worker is told of a job that it took.
function claim.describe(job, execution)
  local lane = redis.call('HGET', key.ACCOUNT(job, execution), 'lane')
  if not lane then return false end -- taken long ago; its lease will run out
  local data = string.rep('[', 131073) -- stands in for an oversized payload: it is rejected as too long
  if redis.call('HSTRLEN', key.JOB(job), 'data') < #data then data = redis.call('HGET', key.JOB(job), 'data') or '' end
  local since, attempts = guard.field(job, 'enqueued_at', 64), claim.number_at(key.JOB(job), 'kiln_attempts')
  return { job, lane, data, since, attempts, claim.lives(job) }
end

-- Changes with every order, so that a worker can tell that those it knows are stale.
function claim.serial_of_orders()
  local serial = redis.pcall('GET', key.SERIAL)
  return type(serial) == 'string' and #serial <= 64 and serial or ''
end
