-- Event `join`: the waiting messages join the batch that a worker has, and the progress that this
-- makes of it is stored, in one step.
-- KEYS: thread pending frozen counters events feed
-- ARGV: now token number phase progress most largest most_chars own_authors kind run_id events
-- Returns {'ok', the kind of wish for the batch that is left or '', {packed messages of the batch}} or
--         {'lost'}: nothing has changed
-- A reply of `say` among them ends what joins, and so does a message with which the batch would have
-- more than `most_chars` characters ('' for no limit), or, with own_authors, one of another author.
-- kind: of the event; it has run_id. If a message that wants a reply is left because of a limit,
-- `interrupt_refused` says which. The messages are marked as members of the batch by the next write
-- of progress. A late copy changes nothing.
--! include common events quiet wish person left
local t = read_thread()
if not holds(t) then return {'lost'} end
if is_late(t.number) then return {'ok', wish_of(t), redis.call('LRANGE', key.frozen, 0, -1)} end
redis.call('HSET', key.thread, 'phase', arg.phase, 'progress', arg.progress, 'number', arg.number,
  'deaths', '0')
local left_wish = wish_of(t)
-- An edit that came after the revisions were made is a wish that is left.
if left_wish ~= 'stop' and not t.revisions then
  redis.call('HDEL', key.thread, 'wish')
  left_wish = ''
end

-- Messages of the batch that want no reply use up nothing of `most`, as in a claim.
local function wanted()
  local count = 0
  for _, entry in ipairs(redis.call('LRANGE', key.frozen, 0, -1)) do
    if not is_marked(entry) then count = count + 1 end
  end
  return count
end

-- Only for the limits: what cannot be read has no text and no author.
local function message_of(entry)
  local is_read, message = pcall(cjson.decode, entry)
  return is_read and type(message) == 'table' and message or {}
end

-- The characters of a message's text, as `Message.text` has them.
local function chars_of(message)
  local texts = {}
  if type(message.c) == 'string' then texts[1] = message.c end
  for _, part in ipairs(type(message.c) == 'table' and message.c or {}) do
    if type(part) == 'table' and type(part.text) == 'string' then
      texts[#texts + 1] = part.text
    end
  end
  return select(2, string.gsub(table.concat(texts, '\n'), '[^\128-\191]', ''))
end

-- How many of the first places the limits of text and authors leave, and which of them does not
-- leave more.
local function allowed(count)
  local chars, authors = 0, {}
  for _, entry in ipairs(redis.call('LRANGE', key.frozen, 0, -1)) do
    local message = message_of(entry)
    chars = chars + chars_of(message)
    if not is_marked(entry) then authors[message.a or false] = true end
  end
  for i, entry in ipairs(redis.call('LRANGE', key.pending, 0, count - 1)) do
    local message = message_of(entry)
    chars = chars + chars_of(message)
    if arg.most_chars ~= '' and chars > tonumber(arg.most_chars) then
      return i - 1, 'max_batch_chars'
    end
    if arg.own_authors ~= '' and entry ~= '' and not is_quiet(entry)
        and not authors[message.a or false] then
      return i - 1, 'separate_authors'
    end
  end
  return count
end

-- Returns how many places joined, and what keeps the next one from it.
local function take(places)
  local most, largest = tonumber(arg.most) - wanted(), tonumber(arg.largest) - t.bn
  if places == 0 then return 0 end
  if is_taken_over(t) or is_spoken(t) then return 0 end -- a person answers
  if most < 1 or largest < 1 then return 0, 'max_batch_size' end
  local count, found, wanting = walk(most, largest, places, 'before')
  local is_full = wanting == most or found == largest
  local reason = count < places and (is_full and 'max_batch_size' or 'say') or nil
  if count > 0 and (arg.most_chars ~= '' or arg.own_authors ~= '') then
    local fewer, why = allowed(count)
    count, reason = fewer, why or reason
  end
  if count == 0 then return 0, reason end
  for _, entry in ipairs(redis.call('LRANGE', key.pending, 0, count - 1)) do
    redis.call('RPUSH', key.frozen, entry)
  end
  redis.call('LTRIM', key.pending, count, -1)
  t.head = t.head + count
  return count, reason
end

local function is_a_reply_missing()
  for _, entry in ipairs(redis.call('LRANGE', key.pending, 0, -1)) do
    if entry ~= '' and not is_marked(entry) then return true end
  end
  return false
end

local head = t.head
skip_cancelled(t)
if t.head ~= head then redis.call('HSET', key.thread, 'head', t.head) end
local places = redis.call('LLEN', key.pending)
local known = redis.call('LLEN', key.frozen)
local count, reason = take(places)
if count > 0 then
  local taken = count - redis.call('LREM', key.frozen, 0, '')
  local left = count_left(t, count < places, taken)
  book(t.pk, t.bk, taken)
  book(t.pk, nil, t.n - taken - left)
  t.n = left
  redis.call('HSET', key.thread, 'bn', t.bn + taken, 'n', left, 'head', t.head,
    'own_due', ms(own_due_of_left(t, tonumber(t.own_due or now))))
  if t.chars and left == 0 then redis.call('HDEL', key.thread, 'chars') end
end
local entries = redis.call('LRANGE', key.frozen, 0, -1)
if is_watched() and (#entries > known or arg.kind == 'run_interrupted') then
  local new = arg.kind == 'run_interrupted' and entries
    or redis.call('LRANGE', key.frozen, known, -1)
  publish(arg.kind, cjson.encode({batch_id = t.batch, run_id = arg.run_id, message_ids = ids_of(new)}))
end
if reason and is_watched() and is_a_reply_missing() then
  publish('interrupt_refused', cjson.encode({batch_id = t.batch, reason = reason}))
end
return {'ok', left_wish, entries}
