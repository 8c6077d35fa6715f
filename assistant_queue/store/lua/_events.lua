-- Publish events in the step that changes the thread: to the thread's subscribers, and to the
-- readers of the feed of all threads. Without either there is no stream, and no event is built:
--   if is_watched() then publish('type', 'JSON of the event') end
-- Pieces of text and typing are for subscribers alone, and need no key.feed:
--   if has_subscribers() then publish_to_subscribers('type', 'JSON of the event') end
-- arg.events: '' for never; else 'listened' or 'always', the minimum number of entries kept in a
-- thread's stream, and a stream's lifetime in ms.
-- Needs key.events, key.feed (for `is_watched` and `publish`) and arg.events.

local subscribed, followed
local function has_subscribers()
  if subscribed == nil then
    subscribed = arg.events ~= ''
      and (string.sub(arg.events, 1, 6) == 'always' or redis.call('EXISTS', key.events) == 1)
  end
  return subscribed
end

local function is_watched()
  if arg.events == '' then return false end
  if followed == nil then
    local is_always = string.sub(arg.events, 1, 6) == 'always'
    -- One command for both streams: mostly there is neither.
    local is_open = is_always or subscribed ~= nil
    local found = is_open and 1 or redis.call('EXISTS', key.events, key.feed)
    followed = found == 2 or (found == 1 and redis.call('EXISTS', key.feed) == 1)
    if subscribed == nil then
      subscribed = is_always or found == 2 or (found == 1 and not followed)
    end
  end
  return subscribed or followed
end

-- pcall: the queue must work even if its Redis user may not write the stream, or if the key has
-- another type.
local function publish_to_subscribers(kind, data)
  local limit, ttl = string.match(arg.events, ' (%d+) (%d+)')
  redis.pcall('XADD', key.events, 'MAXLEN', '~', limit, '*',
    'at', ms(now), 'type', kind, 'data', data)
  redis.pcall('PEXPIRE', key.events, ttl)
end

-- The feed lives as long as it is read: its events do not extend its life. The keys begin alike, and
-- the thread's ends with its id. Chosen: 10,000 events are minutes of a busy queue, and some
-- megabytes.
local function publish(kind, data)
  if subscribed then publish_to_subscribers(kind, data) end
  if followed then
    redis.pcall('XADD', key.feed, 'MAXLEN', '~', '10000', '*', 'at', ms(now), 'type', kind,
      'thread', string.sub(key.events, #key.feed + 4), 'data', data)
  end
end

-- A JSON list of pairs: type, data.
local function publish_all(new_events)
  for _, one in ipairs(cjson.decode(new_events)) do publish(one[1], one[2]) end
end

-- The message ids in a list of packed messages; '' replaces a cancelled one.
local function ids_of(entries)
  local ids = {}
  for i = 1, #entries do
    if entries[i] ~= '' then ids[#ids + 1] = cjson.decode(entries[i]).id end
  end
  return ids
end
