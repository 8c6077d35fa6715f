-- Messages that want no reply wait until one that wants a reply does, and are answered with it. As
-- long as none does, the thread is due when nothing happens any more: it is pending and listed, and
-- no worker looks at it.
-- A reply of `say` is no question: it ends a batch that no run answers, with the messages before it
-- that want no reply, or the batch before it ends there.
-- Needs key.pending.

-- `pack` writes the marks at the beginning of an entry (store/message_codec.py).
local function is_quiet(entry) return string.sub(entry, 1, 7) == '{"w":0,' end
local function is_said(entry) return string.sub(entry, 1, 7) == '{"w":2,' end
local function is_marked(entry) return is_quiet(entry) or is_said(entry) end

-- Whether a batch is a reply of `say` alone: subscribers have had it.
local function was_shown(entry, count) return count == 1 and is_said(entry) end

-- ms of 9999-01-01: a time at which nothing happens. Version 0.1 moves it with a clock that is set
-- back.
local never = 253370764800000
local function is_never(at) return at ~= nil and tonumber(at) >= 200000000000000 end

-- Chosen: enough places for most lists in one step, few enough to hold in Lua.
local step = 100

-- Walk along the list until `most` messages that are not quiet were met, or `largest` messages:
-- returns the number of places passed, and of messages in them. `cuts`: the messages are one batch,
-- which a reply of `say` ends ('after'), or that stands before it ('before'), or that it has
-- answered, and ends ('answered').
local function walk(most, largest, length, cuts)
  local found, wanted = 0, 0
  for start = 0, length - 1, step do
    for i, entry in ipairs(redis.call('LRANGE', key.pending, start, start + step - 1)) do
      if entry ~= '' then
        if cuts and is_said(entry) then
          if wanted > 0 or cuts == 'before' then return start + i - 1, found, wanted end
          return start + i, found + 1, 0
        end
        found = found + 1
        if not is_quiet(entry) and cuts ~= 'answered' then wanted = wanted + 1 end
        if wanted == most or found == largest then return start + i, found, wanted end
      end
    end
  end
  return length, found, wanted
end

-- Whether a waiting message is not quiet; only a thread with the field `quiet` needs to ask.
local function is_reply_wanted(length)
  return select(3, walk(1, length, length)) == 1
end
