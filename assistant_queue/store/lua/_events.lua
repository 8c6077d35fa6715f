-- Publish events in the step that changes the thread. Without subscribers there is no stream, and
-- no event is built:
--   if has_subscribers() then publish('type', 'JSON of the event') end
-- arg.events: '' for never; else 'listened' or 'always', the minimum number of entries kept, and
-- the stream's lifetime in ms after its last event.
-- Needs key.events and arg.events.

local subscribed
local function has_subscribers()
  if subscribed == nil then
    subscribed = arg.events ~= ''
      and (string.sub(arg.events, 1, 6) == 'always' or redis.call('EXISTS', key.events) == 1)
  end
  return subscribed
end

-- pcall: the queue must work even if its Redis user may not write the stream, or if the key has
-- another type.
local function publish(kind, data)
  local limit, ttl = string.match(arg.events, ' (%d+) (%d+)')
  redis.pcall('XADD', key.events, 'MAXLEN', '~', limit, '*',
    'at', ms(now), 'type', kind, 'data', data)
  redis.pcall('PEXPIRE', key.events, ttl)
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
