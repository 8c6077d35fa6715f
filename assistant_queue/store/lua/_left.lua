-- Messages that wait behind those that a batch took.
-- Needs key.pending and key.thread, and what _quiet.lua needs.

-- Remove the places of cancelled messages before the first waiting one: a list that is left begins
-- with a message.
local function skip_cancelled(t)
  while redis.call('LINDEX', key.pending, 0) == '' do
    redis.call('LPOP', key.pending)
    t.head = t.head + 1
  end
end

-- The number of messages that still wait, after a batch took so many of `t.n`.
-- is_some: places are left in the list.
local function count_left(t, is_some, taken)
  if not is_some then return 0 end
  skip_cancelled(t)
  local places = redis.call('LLEN', key.pending)
  local left = t.n - taken
  -- The list counts, should the number ever be wrong: no message in it is forgotten, and no message
  -- that is not in it is waited for.
  if left < 1 or left > places then left = select(2, walk(places, places, places)) end
  return left
end

-- ms when the messages that still wait are due by their own window, which was to end at `due`.
local function own_due_of_left(t, due)
  if not t.quiet then return due end
  if t.n == 0 then
    redis.call('HDEL', key.thread, 'quiet')
    return due
  end
  return is_reply_wanted(redis.call('LLEN', key.pending)) and due or never
end
