-- Event `forget`: delete every key of a thread, including its waiting messages; its failed batches
-- are subtracted from the counters.
-- KEYS: thread pending frozen conversation pace due stopping pausing counters failed events feed
--       over outbox delivering deliveries journal audit auditing approvals questions runs *others
-- ARGV: now thread_id seen batch_ids call_ids over_ms events
-- Returns {'forgotten'}
--         {'busy'}: a worker holds the thread, or delivers a reply; nothing has changed
--         {'changed'}: other messages wait than the caller saw; nothing has changed
-- others: the records of its messages and batches, and their replies in the failed list. batch_ids: of the latter, a JSON list. over: of
-- this very call; a second one changes nothing, because the thread may have new messages since.
-- The feed keeps its newest events, without those of the thread; readers find that older ones are
-- missing. Entries of the audit's spool are blanked, and one more has the rest erased.
--! include common audit

-- Chosen: some ten milliseconds.
local most_kept = 2000

-- Written anew: of an entry that is only deleted, Redis keeps the text as long as its neighbours
-- live. An entry that is no event keeps each place: a reader continues after any of them.
local function forget_in_feed()
  local rows = redis.pcall('XREVRANGE', key.feed, '+', '-', 'COUNT', most_kept + 1)
  if rows.err or #rows == 0 then return end
  local is_in = #rows > most_kept -- or before them
  for _, row in ipairs(rows) do is_in = is_in or row[2][6] == arg.thread_id end
  if not is_in then return end
  redis.call('DEL', key.feed)
  for i = math.min(#rows, most_kept), 1, -1 do
    local id, fields = rows[i][1], rows[i][2]
    if fields[6] ~= arg.thread_id and fields[8] then
      redis.call('XADD', key.feed, id, 'at', fields[2], 'type', fields[4], 'thread', fields[6],
        'data', fields[8])
    else
      redis.call('XADD', key.feed, id, 'at', fields[2], 'type', 'forgotten', 'data', '{}')
    end
  end
  redis.call('PEXPIRE', key.feed, string.match(arg.events, ' %d+ (%d+)') or arg.over_ms)
end

-- Chosen: a few pages for a whole spool.
local page = 500

-- Each entry keeps its place: a worker may be writing it, and removes as many as it has read.
local function forget_in_audit()
  local length = redis.call('LLEN', key.audit)
  if length == 0 and redis.call('EXISTS', key.auditing) == 0 then return end
  for start = 0, length - 1, page do
    for i, entry in ipairs(redis.call('LRANGE', key.audit, start, start + page - 1)) do
      local size, from = string.match(entry, '^%S+ %d+ (%d+) ()')
      if size and string.sub(entry, from, from + size - 1) == arg.thread_id then
        redis.call('LSET', key.audit, start + i - 1, '')
      end
    end
  end
  redis.call('RPUSH', key.audit, audit_head('-'))
end

if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'forgotten'} end
local t = read_thread()
if t.token and tonumber(t['until']) > now then return {'busy'} end
local held = redis.call('HMGET', key.delivering, 'token', 'until')
if held[1] and (tonumber(held[2] or '') or 0) > now then return {'busy'} end
if redis.call('LLEN', key.pending) + redis.call('LLEN', key.frozen) ~= tonumber(arg.seen) then
  return {'changed'}
end
if t.run then redis.call('HDEL', key.runs, t.run) end
-- A message that was counted nowhere is not forgotten either.
local function book_forgotten(from, count)
  if from and from ~= '' then book(from, 'forgotten', count) end
end
book_forgotten(t.pk, t.n)
book_forgotten(t.bk, t.bn)
for _, batch_id in ipairs(cjson.decode(arg.batch_ids)) do
  redis.call('ZREM', key.failed, batch_id)
end
for _, call_id in ipairs(cjson.decode(arg.call_ids)) do
  redis.call('ZREM', key.approvals, call_id)
  redis.call('ZREM', key.questions, call_id)
end
redis.call('ZREM', key.due, arg.thread_id)
redis.call('ZREM', key.stopping, arg.thread_id)
redis.call('ZREM', key.pausing, arg.thread_id)
redis.call('ZREM', key.deliveries, arg.thread_id)
book('replies', nil, redis.call('LLEN', key.outbox))
redis.call('DEL', key.thread, key.pending, key.frozen, key.conversation, key.pace, key.events,
  key.outbox, key.delivering, key.journal)
forget_in_feed()
forget_in_audit()
for i = 1, rest_count do
  if redis.call('TYPE', rest_key(i)).ok == 'hash'
      and redis.call('HGET', rest_key(i), 'state') == 'failed' then
    book('failed', 'forgotten', tonumber(redis.call('HGET', rest_key(i), 'n')))
  elseif redis.call('TYPE', rest_key(i)).ok == 'hash'
      and redis.call('HGET', rest_key(i), 'entry')
      and not redis.call('HGET', rest_key(i), 'thread') then
    book('undelivered', nil, 1) -- a reply in the failed list
  end
  redis.call('DEL', rest_key(i))
end
return {'forgotten'}
