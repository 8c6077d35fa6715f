-- A thread that a person answers instead of the model (take_over.lua). Its field `paused` is set,
-- which keeps workers of every version from it: 2, or 1 if the thread is paused besides, and stays
-- so when it is handed back. What the person says is written to the conversation and delivered all
-- the same.
-- Needs key.thread, and key.pausing where a pause is listed.

-- An older version resumes the thread without removing the name; then it means nothing.
local function is_taken_over(t) return t.paused ~= nil and t.taken_by ~= nil end

-- Before the field is set: the list has since when the thread is paused or a person's.
local function list_pause(t)
  if t.paused then
    redis.call('ZADD', key.pausing, 'NX', ms(now), arg.thread_id)
  else
    redis.call('ZADD', key.pausing, ms(now), arg.thread_id)
  end
end

-- The replies of a paused thread wait; those of a person do not.
local function holds_replies(t) return t.paused ~= nil and not is_taken_over(t) end

-- Whether a reply waits that a person has said: it answers the messages before it.
local function is_spoken(t)
  local seq = tonumber(string.match(t.spoken or '', '^(%-?%d+) ') or '')
  return seq ~= nil and seq >= t.head
end

-- Whether nothing of the thread may be claimed. While a person answers, a batch that was under way
-- ends, and what was said is written.
local function is_kept_back(t)
  if not t.paused then return false end
  return not (is_taken_over(t) and (t.batch or is_spoken(t)))
end

-- The hash of a thread that became idle was deleted: it stays paused, or a person's.
local function keep_pause(t)
  if not t.paused then return end
  redis.call('HSET', key.thread, 'paused', t.paused)
  if t.taken_by then
    redis.call('HSET', key.thread, 'taken_by', t.taken_by, 'taken_at', t.taken_at or ms(now))
  end
end
