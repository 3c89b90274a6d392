-- The newest jobs of lanes. a: states ('queued' and so on), limit; after: when something must have happened to a job;
-- before, id: none but those that come behind that moment and id, where they are given;
-- client: whose alone, nil for all; lanes: ARGV[2] and on, since names may be anything.
-- Returns pairs: when something last happened to a job (UTC, ISO 8601), and its id; of each registry at most `limit`,
-- and those beside that ended in the second of the last one, or the one before: their order is not the registry's.

local ANY = true -- in another order than that of moments
local HELD = { -- by state: the registries in which jobs of it stand, newest last but for those in ANY order
  queued = { { key.QUEUE, 'enqueued_at' }, { key.DEFERRED, 'enqueued_at', ANY }, { key.SCHEDULED, 'enqueued_at', ANY } },
  started = { { key.STARTED, 'started_at', ANY } },
  finished = { { key.FINISHED, 'ended_at' } },
  failed = { { key.FAILED, 'ended_at' } },
  cancelled = { { key.CANCELED, 'ended_at' } },
}
local PAGE = 50
local MOST = 5000 -- more than `limit` that are looked at: many may have one moment
local SECOND = 19 -- characters of a moment: RQ's registries are in the order of whole seconds, within one in that of ids

local left = MOST + a.limit -- members of registries in ANY order that are looked at yet
local found = {}

-- The ids of a registry from its end; nothing where a stranger's key has another type.
local function page(name, at)
  local kind = redis.call('TYPE', name).ok
  if kind == 'list' then
    local ids = redis.call('LRANGE', name, -at - PAGE, -at - 1)
    local last = {}
    for i = #ids, 1, -1 do last[#last + 1] = ids[i] end
    return last
  end
  return kind == 'zset' and redis.call('ZRANGE', name, at, at + PAGE - 1, 'REV') or {}
end

-- When something last happened to a member of a registry, '' where that is not known or it is not the client's; its id.
local function moment(member, field)
  local job = string.match(member, '^(.*):') or member -- those that are started stand with their executions
  return #job <= 64 and guard.of(job, a.client) and guard.field(job, field, 40) or '', job
end

-- Whether its moment is known, and it comes behind the mark, where there is one.
local function behind(when, job)
  return when ~= '' and (not a.before or when < a.before or when == a.before and job < a.id)
end

-- The second of the first member of a page of which it is known; ''.
local function second(name, at, field)
  for _, member in ipairs(page(name, at)) do
    local when = moment(member, field)
    if when ~= '' then return string.sub(when, 1, SECOND) end
  end
  return ''
end

-- Where to begin in a registry, which is in the order of seconds but for what was put back into it: by halves, then
-- back past one second more, since a job stands under that of its settlement.
local function begin(name, field)
  if not a.before then return 0 end
  local kind = redis.call('TYPE', name).ok
  local low, high = 0, kind == 'list' and redis.call('LLEN', name) or kind == 'zset' and redis.call('ZCARD', name) or 0
  while high - low > PAGE do
    local middle = math.floor((low + high) / 2)
    if second(name, middle, field) > string.sub(a.before, 1, SECOND) then low = middle else high = middle end
  end
  local edge = second(name, low, field)
  for _ = 1, MOST / PAGE do
    if low == 0 or second(name, low, field) > edge then break end
    low = math.max(0, low - PAGE)
  end
  return low
end

local function look(registry, lane, field)
  local some, edge, crossed, first = 0, '', 0, begin(registry(lane), field)
  for at = first, first + MOST + a.limit - 1, PAGE do
    local ids = page(registry(lane), at)
    for _, member in ipairs(ids) do
      local when, job = moment(member, field)
      if behind(when, job) then
        local now = string.sub(when, 1, SECOND)
        if some >= a.limit and now < edge then crossed = crossed + 1 end
        if when < a.after or crossed == 2 then return end
        if edge == '' or now < edge then edge = now end
        found[#found + 1] = when
        found[#found + 1] = job
        some = some + 1
      end
    end
    if #ids < PAGE then return end
  end
end

-- The same where the order is another: all of them, as far as may be, and the newest of these.
local function gather(registry, lane, field)
  local some = {}
  for at = 0, left - 1, PAGE do
    local ids = page(registry(lane), at)
    left = left - #ids
    for _, member in ipairs(ids) do
      local when, job = moment(member, field)
      if behind(when, job) and when >= a.after then some[#some + 1] = { when, job } end
    end
    if #ids < PAGE then break end
  end
  table.sort(some, function(one, two) return one[1] > two[1] or one[1] == two[1] and one[2] > two[2] end)
  for n = 1, math.min(#some, a.limit) do
    found[#found + 1] = some[n][1]
    found[#found + 1] = some[n][2]
  end
end

for n = 2, #ARGV do
  for _, state in ipairs(a.states) do
    for _, place in ipairs(HELD[state]) do (place[3] and gather or look)(place[1], ARGV[n], place[2]) end
  end
end
return found
