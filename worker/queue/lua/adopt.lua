-- A picture of the job lies spooled: may that execution go on? a: job, execution, lane, worker, stamp, lease.
-- What it cost is known by now and charged when it is settled, so no estimate stands for it.
-- Returns the job as claim.describe does where it is owned, 'gone', or the job's status: that execution is over.

local status = claim.status(a.job)
local there = status == 'queued' and guard.field(a.job, 'origin', 256)
if not there or guard.home(there) ~= a.lane then there = a.lane end -- it may have been left to larger workers since
local ours = claim.holds(a.job, a.execution)
if ours or status == 'queued' and redis.call('LREM', key.QUEUE(there), 0, a.job) > 0 then
  claim.own(a.job, a.execution, a.lane, { worker = a.worker, stamp = a.stamp, lease = a.lease, estimate = 0 })
  return claim.describe(a.job, a.execution)
end
-- A started job that nobody owns was taken from us by a stranger: the lease that is left is how the reaper finds it.
if status ~= 'started' or claim.owner(a.job) then claim.drop(a.job, a.execution, a.lane, a.worker) end
return status or 'gone'
