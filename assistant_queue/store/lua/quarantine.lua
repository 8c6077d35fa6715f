-- Event `quarantine`: rename keys with content that the queue did not write, so that an operator
-- can inspect them; the thread continues with the rest.
-- KEYS: thread pending frozen due stopping counters failed quarantine broken scheduled queue queues
--       job metrics
-- ARGV: now thread_id kind batch_id failure done shelf recheck_ms tick function origin base stamp
--       job_id counts
-- Returns {'moved', new names of keys ...}
--         {'foreign', a key of RQ's that has another type}: nothing has changed
-- Sound keys stay: another call, or this one if a copy of it arrives late, has repaired them.
-- UNCHECKED
-- kind: what `broken` should be. The hash of a broken thread is quarantined, too: its waiting
-- messages are numbered anew; frozen messages move to the failed list, because their progress is
-- unknown.
--! include common wakeup quiet person counts
for _, theirs in ipairs({{key.scheduled, 'zset'}, {key.queue, 'list'}, {key.queues, 'set'}}) do
  if is_foreign(theirs[1], theirs[2]) then return {'foreign', theirs[1]} end
end

local moved = {'moved'}
local function move(name)
  if redis.call('EXISTS', name) == 0 then return end
  local to = arg.shelf .. arg.batch_id .. ':' .. string.sub(name, #arg.base + 2)
  redis.call('RENAME', name, to)
  redis.call('PERSIST', to)
  moved[#moved + 1] = to
end

local kinds = {['thread'] = 'hash', ['pending'] = 'list', ['frozen'] = 'list',
  ['conversation'] = 'hash', ['message'] = 'hash', ['record'] = 'hash', ['dead'] = 'list',
  ['due'] = 'zset', ['stopping'] = 'zset', ['failed'] = 'zset', ['counters'] = 'hash',
  ['outbox'] = 'list',
  ['delivering'] = 'hash', ['deliveries'] = 'zset', ['reply'] = 'hash',
  ['call'] = 'hash', ['approvals'] = 'zset', ['questions'] = 'zset', ['runs'] = 'hash',
  ['journal'] = 'list', ['metrics'] = 'hash', ['audit'] = 'list', ['auditing'] = 'hash',
  ['history'] = 'stream', ['operations'] = 'list', ['pausing'] = 'zset'}
if is_foreign(key.quarantine, 'zset') then redis.call('DEL', key.quarantine) end
for _, ours in ipairs({{key.due, 'zset'}, {key.counters, 'hash'}, {key.failed, 'zset'}}) do
  if is_foreign(ours[1], ours[2]) then move(ours[1]) end
end

local function thread_fields()
  local flat = redis.call('HGETALL', key.thread)
  local t = {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end

local function readable(entry)
  local is_read, message = pcall(cjson.decode, entry)
  return is_read and type(message) == 'table' and type(message.id) == 'string' and message.id or nil
end

local function message_key(id) return arg.base .. ':message:' .. id end

-- The frozen messages become a failed batch, under their batch's id if that can be read.
local function bury(t)
  local batch = t.batch and string.find(t.batch, '^[%w_-]+$') and t.batch or arg.batch_id
  local record, dead = arg.base .. ':batch:' .. batch, arg.base .. ':dead:' .. batch
  if is_foreign(record, 'hash') then move(record) end
  if is_foreign(dead, 'list') then move(dead) end
  local entries, ids, of_users = redis.call('LRANGE', key.frozen, 0, -1), {}, 0
  for _, entry in ipairs(entries) do
    local id = readable(entry)
    if id then
      ids[#ids + 1] = cjson.encode(id)
      if not is_said(entry) then of_users = of_users + 1 end
      if redis.call('TYPE', message_key(id)).ok == 'hash' then
        redis.call('HSET', message_key(id), 'batch', batch)
      end
    end
  end
  redis.call('RENAME', key.frozen, dead)
  redis.call('HSET', record, 'thread', arg.thread_id, 'state', 'failed',
    'failure', string.format(arg.failure, table.concat(ids, ',')),
    'failed_at', ms(now), 'n', #entries)
  redis.call('PERSIST', record)
  redis.call('ZADD', key.failed, ms(now), batch)
  book(nil, 'failed', #entries)
  count_step()
  if arg.counts ~= '' and of_users > 0 then count('m:failed', ms(of_users)) end
  redis.call('PUBLISH', arg.done, batch)
end

-- Make the waiting messages a new pending thread: due at once, without a batch or a back-off. Some
-- may want no reply (_quiet.lua).
local function rebuild_thread(t)
  local entries, count, head, said = redis.call('LRANGE', key.pending, 0, -1), 0, 1, nil
  for i, entry in ipairs(entries) do
    if entry ~= '' then
      count = count + 1
      if is_said(entry) then said = i end
      local id = count == 1 and readable(entry)
      local seq = id and redis.call('TYPE', message_key(id)).ok == 'hash'
        and redis.call('HGET', message_key(id), 'seq')
      if seq and is_number(seq) then head = tonumber(seq) - i + 1 end
    end
  end
  keep_pause(t)
  redis.call('ZREM', key.due, arg.thread_id)
  redis.pcall('ZREM', key.stopping, arg.thread_id)
  if count == 0 then
    redis.call('DEL', key.pending)
    return
  end
  redis.call('HSET', key.thread, 'state', 'pending', 'due', ms(now), 'n', count, 'head', head,
    'first', ms(now), 'own_due', ms(now), 'pk', 'waiting', 'quiet', '1')
  book(nil, 'waiting', count)
  t.batch, t.head, t.spoken = nil, head, nil
  if is_taken_over(t) and said then
    t.spoken = ms(head + said - 1) .. ' ' .. t.taken_by
    redis.call('HSET', key.thread, 'spoken', t.spoken)
  end
  if not is_kept_back(t) then
    redis.call('HSET', key.thread, 'wake', wake_at(nil, now))
    redis.call('ZADD', key.due, ms(now + tonumber(arg.recheck_ms)), arg.thread_id)
  end
end

-- The conditions of the check before each script, and of claim.lua.
local function is_broken(t)
  if not t or not is_sound(t) or is_foreign(key.pending, 'list')
      or is_foreign(key.frozen, 'list') then
    return true
  end
  if t.batch then return t.phase ~= 'delivering' and redis.call('EXISTS', key.frozen) == 0 end
  return t.state ~= nil and redis.call('EXISTS', key.pending) == 0
end

-- An entry at the head of an outbox that is no reply: the others return to the line.
local function rebuild_outbox()
  local entries = redis.call('LRANGE', key.broken, 0, -1)
  local function is_reply(entry) return string.find(entry, '^[%w_-]+ %d+ %a+ ') ~= nil end
  if #entries == 0 or is_reply(entries[1]) then return end
  move(key.broken)
  for _, entry in ipairs(entries) do
    if is_reply(entry) then redis.call('RPUSH', key.broken, entry) else add_to('replies', -1) end
  end
end

if arg.kind == 'thread' or arg.kind == 'pending' or arg.kind == 'frozen' then
  local found = not is_foreign(key.thread, 'hash') and thread_fields() or nil
  if not is_broken(found) then return moved end
  local t = found or {}
  if t.pk and t.n and is_number(t.n) then book(t.pk, nil, tonumber(t.n)) end
  if t.bk and t.bn and is_number(t.bn) then book(t.bk, nil, tonumber(t.bn)) end
  move(key.thread)
  if is_foreign(key.pending, 'list') then move(key.pending) end
  if is_foreign(key.frozen, 'list') then move(key.frozen) end
  if redis.call('EXISTS', key.frozen) == 1 then bury(t) end
  rebuild_thread(t)
elseif kinds[arg.kind] and is_foreign(key.broken, kinds[arg.kind]) then
  move(key.broken)
elseif arg.kind == 'outbox' then
  rebuild_outbox()
end
for i = 2, #moved do redis.call('ZADD', key.quarantine, ms(now), moved[i]) end
return moved
