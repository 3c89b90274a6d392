-- Queue jobs whose records say that they wait and whose ids are in no queue. a: jobs.
-- Returns those that were queued. One that its producer is about to queue is then in its lane twice: a take drops one.

local LONG = 1000 -- ids of a lane that are looked through; in a longer one they are found once it is shorter

-- The lane that a job should wait in and does not.
local function lane_without(job)
  local status = guard.field(job, 'status', 32)
  if status ~= 'queued' and status ~= '' or guard.owner(job) then return nil end
  local lane = guard.field(job, 'origin', 256)
  if not guard.parts(lane) or redis.call('HSTRLEN', key.JOB(job), 'data') == 0 then return nil end
  local waiting = redis.pcall('LLEN', key.QUEUE(lane))
  if type(waiting) ~= 'number' or waiting > LONG then return nil end
  if waiting > 0 and redis.call('LPOS', key.QUEUE(lane), job) then return nil end
  return lane
end

local queued = {}
for _, job in ipairs(a.jobs) do
  local lane = lane_without(job)
  if lane then
    redis.call('RPUSH', key.QUEUE(lane), job)
    redis.call('SADD', key.QUEUES, key.QUEUE(lane))
    guard.mail(lane)
    claim.ring(lane)
    queued[#queued + 1] = job
  end
end
return queued
