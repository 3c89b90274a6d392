-- Take the next job of the best lane among the kinds that a worker serves.
-- a: execution, worker, stamp, lease, estimate; served (kinds), resident (kinds that are loaded), memory (bytes);
--    stale: when a lane's first job must have been enqueued for residence not to matter; serial of the orders that the
--    worker knows, where it obeys any; without (clients that are paused); hasty: take the best that is found;
--    handed: of each execution that this worker has rendered job, execution and cost, so that none of them is blamed
--    for what comes, and each client has paid what it was given.
-- Returns the job as claim.describe does, false where none waits, 'orders' where there are others by now, 'look'
-- where the queues are to be looked through first, 'more' where it is to be called again: each call ends in time, and
-- others come in between.
--
-- Best: highest priority; then the client that had least GPU time; among equals one that waits too long already, then
-- a resident kind, then the longest wait, then the lane's name. index.lua says how that is found, key by key;
-- key.TAKEN(execution) is the job that an execution took, so that a take repeated after a lost reply finds it again.

local PASSED = 1000 -- paused ones that are passed over among lanes of forged priorities: of others there are few
local TIES = 12 -- of those with equal clocks, in each group: as many are compared in one call, the others in the next

local served, resident, paused = {}, {}, {}
for _, kind in ipairs(a.served) do served[kind] = true end
for _, kind in ipairs(a.resident) do resident[kind] = true end
for _, client in ipairs(a.without) do paused[client] = true end

-- The groups that this worker may take from and where something waits.
local function groups_served()
  local groups = {}
  for group in pairs(index.kinds) do
    local kind, bytes = index.kind(group)
    if served[kind] and bytes <= a.memory then
      local sets = {}
      for _, priority in ipairs(index.PRIORITIES) do
        sets[#sets + 1] = key.LEVEL(group, priority)
        sets[#sets + 1] = key.AHEAD(group, priority)
      end
      if redis.call('EXISTS', unpack(sets)) > 0 then groups[#groups + 1] = group end
    end
  end
  return groups
end

-- What decides between two lanes of one priority and equal clocks.
local function turn(found)
  local kind, bytes = index.kind(found.group)
  local class = found.since < a.stale and 0 or (resident[kind] and 1 or 2)
  return { class, found.since, guard.home(found.lane), bytes }
end

local function earlier(one, other)
  if not other then return true end
  local mine, theirs = turn(one), turn(other)
  for i = 1, #mine do
    if mine[i] ~= theirs[i] then return mine[i] < theirs[i] end
  end
  return false
end

-- The first entry of a set whose client is not paused and that stands where it should, `below` a score. Others are
-- put right on the way. nil where there is none, or there are no looks left.
local function first_of(set, group, priority, below)
  local at, size = 0, 1
  while index.looks >= 0 do
    local page = index.on('ZRANGE', set, at, at + size - 1)
    if #page == 0 or (priority == 'odd' and at > PASSED) then return nil end
    for _, member in ipairs(page) do
      if paused[priority == 'odd' and index.client(member) or member] then
        at, size = at + 1, 500
      else
        local score = tonumber(index.on('ZSCORE', set, member))
        if score >= below then return nil end
        local found = index.put(group, priority, member)
        local stands = found and index.on('ZSCORE', set, member)
        if stands and tonumber(stands) == score then return found end
        if stands and tonumber(stands) < score then at = 0 end
        break -- what follows has moved
      end
    end
  end
end

local function first_at_floor(groups, priority)
  local best
  for _, group in ipairs(groups) do
    local found = first_of(key.LEVEL(group, priority), group, priority, math.huge)
    if found and earlier(found, best) then best = found end
  end
  return best
end

-- Those whom the floor has passed are at the floor.
local function pass(groups, priority)
  for _, group in ipairs(groups) do
    local passed = index.on('ZRANGEBYSCORE', key.AHEAD(group, priority), '-inf', index.floor, 'LIMIT', 0, TIES)
    for _, member in ipairs(passed) do index.put(group, priority, member) end
  end
end

-- The best of those above the floor. It is raised to the smallest clock, as the take will, and who is there then is
-- compared; where there are no looks left for that, the take is made all the same, or the next call would undo it.
local function first_above(groups, priority)
  local best
  for _, group in ipairs(groups) do
    local below = best and best.clock or math.huge
    local found = first_of(key.AHEAD(group, priority), group, priority, below)
    if found and found.clock < below then best = found end
  end
  local fallen = first_at_floor(groups, priority) -- looked at above, they turned out to be at the floor
  if fallen or not best or index.looks < 0 then return fallen or best end
  index.floor = best.clock
  index.put(best.group, priority, best.member)
  pass(groups, priority)
  best = first_at_floor(groups, priority) or best
  index.looks = math.max(index.looks, 0)
  return best
end

local function best_of(groups)
  for _, priority in ipairs(index.PRIORITIES) do
    pass(groups, priority)
    local best = first_at_floor(groups, priority)
    if not best and index.looks >= 0 then best = first_above(groups, priority) end
    if best or index.looks < 0 then return best end
  end
end

for _, one in ipairs(a.handed) do claim.told(one) end
local before = redis.call('GET', key.TAKEN(a.execution))
if before then return claim.holds(before, a.execution) and claim.describe(before, a.execution) end
if a.serial and a.serial ~= claim.serial_of_orders() then return 'orders' end
local news = index.serve(a.served) and 'look' or index.catch_up()
if news and not a.hasty then return news end
if a.hasty then index.refresh() end
local best = best_of(groups_served())
if index.looks < 0 and not (best and a.hasty) then return 'more' end
if not best and index.behind then return 'more' end
if not best then
  for kind in pairs(served) do guard.become(key.BELL(string.match(kind, '^[^:]*')), 'list') end
  return false
end
redis.call('LREM', key.QUEUE(best.lane), 1, best.job)
claim.own(best.job, a.execution, guard.home(best.lane), a)
claim.tell_unheeded(best.job)
claim.count_up(key.JOB(best.job), 'kiln_attempts')
redis.call('SET', key.TAKEN(a.execution), best.job, 'EX', 3600)
redis.call('SET', key.NOW, best.clock)
redis.call('HSET', key.CLOCKS, best.client, best.clock + a.estimate)
index.floor = best.clock
index.rescore(best.client)
index.put(best.group, best.priority, best.member)
return claim.describe(best.job, a.execution)
