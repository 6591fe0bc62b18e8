-- The ledger of gcra.py in Redis: every limit of a call is checked, then all of them are charged or none.
-- One script, so that a call costs one round trip to reserve and one to settle. Time is Redis' own.
--
-- KEYS[1]    meta, a hash:   last, offset      the steady clock
--                            o:<owner>         when the owner's lease ends
-- KEYS[2…]   one of each rule: a rate's string  at:debt
--                            calls that run     a hash  owner → number
--                            a budget's hash    p the period, u used, r:<owner> reserved
-- beside them  <meta>:h:<owner>  the keys an owner holds something of,  <meta>:u:<day>  the books of a day,
-- and                 <meta>:s:<process>  the number of the last settlement taken
-- All keys share one hash tag, so they live on one node of a cluster, those that are named here included.
--
-- ARGV[1] operation, ARGV[2] Unix milliseconds or '' for Redis' clock, ARGV[3] owner, then by operation (below).

local meta = KEYS[1]
local MINUTE, DAY, JUMP = 60000, 86400000, 1000
local TOKENS, CONCURRENT, MONTH = 2, 3, 6

local op, owner = ARGV[1], ARGV[3]
local now_ms = tonumber(ARGV[2])
if not now_ms then
  local t = redis.call('TIME')
  now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
end

local function whole(n) return string.format('%.0f', n) end
local function ceil(a, b) return math.ceil(a / b) end

-- A key of another type, whoever wrote it, would fail every call from now on: it is removed.
local function read(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    redis.call('DEL', (select(2, ...)))
    return redis.pcall(...)
  end
  return reply
end

local clock = read('HMGET', meta, 'last', 'offset')
local last, offset = tonumber(clock[1]) or 0, tonumber(clock[2]) or 0
if now_ms < last - JUMP then
  offset = offset + last - now_ms
  redis.call('HSET', meta, 'offset', whole(offset), 'last', whole(now_ms))
end
local now = now_ms + offset
local day = math.floor(now_ms / DAY)

local leases = {}
local function alive(name)
  local ends = leases[name]
  if not ends then
    ends = tonumber(redis.call('HGET', meta, 'o:' .. name)) or 0
    leases[name] = ends
  end
  return ends > now
end

local function forget(name)
  local held = meta .. ':h:' .. name
  for _, key in ipairs(read('SMEMBERS', held)) do
    read('HDEL', key, name, 'r:' .. name)
  end
  redis.call('DEL', held)
  redis.call('HDEL', meta, 'o:' .. name)
end

local function holds(key, before, after)
  if before == 0 and after ~= 0 then redis.call('SADD', meta .. ':h:' .. owner, key) end
  if before ~= 0 and after == 0 then redis.call('SREM', meta .. ':h:' .. owner, key) end
end

local function take(key, field, amount)
  local before = tonumber(redis.call('HGET', key, field)) or 0
  local after = before - amount
  if before == 0 then return end
  if after > 0 then
    redis.call('HSET', key, field, whole(after))
  else
    redis.call('HDEL', key, field)
    holds(key, before, 0)
  end
end

local function civil(z)
  z = z + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - math.floor((153 * mp + 2) / 5) + 1
end

local function period_of(kind, d)
  if kind ~= MONTH then return d end
  local year, month = civil(d)
  return 12 * year + month - 1
end

local function period_end(kind)
  if kind ~= MONTH then return (day + 1) * DAY end
  local d = day + 1
  while select(3, civil(d)) ~= 1 do d = d + 1 end
  return d * DAY
end

local function debt_of(key, amount)
  local at, debt = string.match(read('GET', key) or '', '^(%d+):(%d+)$')
  if not at then return 0 end
  return math.max(0, debt - math.max(0, now - at) * amount)
end

local function owe(key, amount, debt)
  if debt > 0 then
    redis.call('SET', key, whole(now) .. ':' .. whole(debt), 'PX', whole(ceil(debt, amount) + MINUTE))
  else
    redis.call('DEL', key)
  end
end

-- Fields of a hash that belong to owners, summed over those whose lease runs; the others are removed.
local function held_by_living(key, fields, prefix)
  local sum = 0
  for i = 1, #fields, 2 do
    local name = fields[i]
    if string.sub(name, 1, #prefix) == prefix then
      name = string.sub(name, #prefix + 1)
      if alive(name) then
        sum = sum + fields[i + 1]
      else
        redis.call('HDEL', key, fields[i])
      end
    end
  end
  return sum
end

local function budget_of(key, kind)
  local period, fields = period_of(kind, day), read('HGETALL', key)
  local used, fits = 0, false
  for i = 1, #fields, 2 do
    if fields[i] == 'p' then fits = tonumber(fields[i + 1]) == period end
    if fields[i] == 'u' then used = tonumber(fields[i + 1]) end
  end
  if fits then return used, held_by_living(key, fields, 'r:') end
  redis.call('DEL', key)
  redis.call('HSET', key, 'p', period, 'u', 0)
  redis.call('PEXPIRE', key, whole(period_end(kind) - now_ms + DAY))
  return 0, 0
end

-- reserve: tokens, money, then of each rule: kind, amount, burst, shadow (1 or 0)
--   → 1 or 0 for admitted, day, then of each rule: remaining, reset, over (1 or 0), wait.  → -1: unknown owner.
if op == 'reserve' then
  if not alive(owner) then return {-1} end
  local tokens, money = tonumber(ARGV[4]), tonumber(ARGV[5])
  local reply, charges, admitted = {1, day}, {}, true
  for n = 2, #KEYS do
    local key, at = KEYS[n], 6 + (n - 2) * 4
    local kind, amount, burst = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local remaining, reset, wait, over, before = 0, 0, 0, false, 0
    local cost = 1
    if kind == TOKENS or kind == 4 then cost = tokens elseif kind > CONCURRENT then cost = money end
    if kind < CONCURRENT then
      local debt, most = debt_of(key, amount), burst * MINUTE
      before = debt + cost * MINUTE
      over = before > most
      if over then
        wait = cost > burst and -1 or ceil(before - most, amount)
      else
        debt = before
      end
      remaining, reset = math.max(0, math.floor((most - debt) / MINUTE)), ceil(debt, amount)
    elseif kind == CONCURRENT then
      local running = held_by_living(key, read('HGETALL', key), '')
      over = running >= amount
      if over then wait = -2 else remaining = amount - running - 1 end
    else
      local used, reserved = budget_of(key, kind)
      local taken = used + reserved
      reset = period_end(kind) - now_ms
      over = taken + cost > amount
      if over then
        remaining = math.max(0, amount - taken)
        -- Where only what is reserved stands in the way, calls that end may make room.
        wait = cost > amount and -1 or (used + cost > amount and reset or -2)
      else
        remaining = amount - taken - cost
      end
    end
    if over and ARGV[at + 3] == '0' then admitted = false end
    if not over then charges[#charges + 1] = {key, kind, amount, cost, before} end
    local i = #reply
    reply[i + 1], reply[i + 2], reply[i + 3], reply[i + 4] = remaining, reset, over and 1 or 0, wait
  end
  if not admitted then
    reply[1] = 0
    return reply
  end
  for _, charge in ipairs(charges) do
    local key, kind, amount, cost, debt = charge[1], charge[2], charge[3], charge[4], charge[5]
    if kind < CONCURRENT then
      owe(key, amount, debt)
    elseif kind == CONCURRENT then
      local after = redis.call('HINCRBY', key, owner, 1)
      holds(key, after - 1, after)
    elseif cost > 0 then
      local after = redis.call('HINCRBY', key, 'r:' .. owner, whole(cost))
      holds(key, after - cost, after)
    end
  end
  return reply
end

-- settle: process, number, day of the reservation, tokens and money reserved, tokens and money used, seconds that books
--   are kept, how many books, of each: field, increment; then of each rule that was charged: kind, amount, burst
--   → 1; 0 if this number has been taken before, 2 if one before it has not.
-- A process numbers its settlements and sends those again whose answer got lost, in their order. A call that was never reserved here,
-- because Redis was away, names day -1 and reserved nothing: then it is charged now, and a bucket may get empty by it,
-- but no emptier.
if op == 'settle' then
  local done = meta .. ':s:' .. ARGV[4]
  local taken, this = tonumber(read('GET', done)), tonumber(ARGV[5])
  if taken and taken >= this then return 0 end
  if taken and taken < this - 1 then return 2 end
  redis.call('SET', done, ARGV[5], 'EX', 86400)
  local then_day, tokens, money = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
  local tokens_used, money_used = tonumber(ARGV[9]), tonumber(ARGV[10])
  local at = 13
  local books = tonumber(ARGV[12])
  if books > 0 then
    local key = meta .. ':u:' .. whole(day)
    for i = 1, books do
      read('HINCRBY', key, ARGV[at], ARGV[at + 1])
      at = at + 2
    end
    redis.call('EXPIRE', key, ARGV[11])
  end
  for n = 2, #KEYS do
    local key, kind, amount = KEYS[n], tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local most = tonumber(ARGV[at + 2]) * MINUTE
    at = at + 3
    if kind < CONCURRENT and then_day < 0 then
      local debt = debt_of(key, amount)
      local cost = (kind == TOKENS and tokens_used or 1) * MINUTE
      owe(key, amount, math.max(debt, math.min(most, debt + cost)))
    elseif kind == TOKENS then
      owe(key, amount, math.max(0, debt_of(key, amount) + (tokens_used - tokens) * MINUTE))
    elseif kind == CONCURRENT then
      if alive(owner) then take(key, owner, 1) end
    elseif kind > CONCURRENT then
      budget_of(key, kind)
      if alive(owner) and period_of(kind, then_day) == period_of(kind, day) then
        take(key, 'r:' .. owner, kind == 4 and tokens or money)
      end
      redis.call('HINCRBY', key, 'u', whole(kind == 4 and tokens_used or money_used))
    end
  end
  return 1
end

-- renew: milliseconds of the lease, the owner it takes the place of or '', 1 to begin a lease that is not known or 0; then
--   of each rule the new owner holds: kind, number → 1 if the owner was known, 0 if it is new; how many owners live; how many of them are before it, by name.
--   What is held is set, not added.
if op == 'renew' then
  local lease, before = tonumber(ARGV[4]), ARGV[5]
  if before ~= '' then forget(before) end
  local fields, known, living, rank = redis.call('HGETALL', meta), 0, 0, 0
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'o:' then
      local name = string.sub(fields[i], 3)
      if tonumber(fields[i + 1]) <= now then
        forget(name)
      elseif name == owner then
        known = 1
      elseif name ~= before then
        living = living + 1
        if name < owner then rank = rank + 1 end
      end
    end
  end
  redis.call('HSET', meta, 'last', whole(now_ms))
  if known == 0 and ARGV[6] == '0' then return {0, living, rank} end
  redis.call('HSET', meta, 'o:' .. owner, whole(now + lease))
  for n = 2, #KEYS do
    local kind, number = tonumber(ARGV[7 + (n - 2) * 2]), tonumber(ARGV[8 + (n - 2) * 2])
    if kind == CONCURRENT then
      redis.call('HSET', KEYS[n], owner, whole(number))
    else
      budget_of(KEYS[n], kind)
      redis.call('HSET', KEYS[n], 'r:' .. owner, whole(number))
    end
    holds(KEYS[n], 0, number)
  end
  return {known, living + 1, rank}
end

-- forget: process. An owner that stops gives back what it holds; the number of its process is dropped, too.
if op == 'forget' then
  forget(owner)
  redis.call('DEL', meta .. ':s:' .. ARGV[4])
  return 1
end

return redis.error_reply('unknown operation')
