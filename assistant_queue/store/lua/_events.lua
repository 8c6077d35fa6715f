-- Those who listen to the thread are told in the step that changes it. Where nobody listens there is no stream, and nothing is built.
--   if listened() then tell('type', 'JSON of what happened') end
-- arg.events: '' for never, else 'listened' or 'always', how many entries are kept at least, and ms that the stream lives after the last.
-- Needs key.events and arg.events.

local heard
local function listened()
  if heard == nil then
    heard = arg.events ~= '' and (string.sub(arg.events, 1, 6) == 'always' or redis.call('EXISTS', key.events) == 1)
  end
  return heard
end

-- pcall: the queue goes on where its user may not write the stream, or somebody else's key stands in its place.
local function tell(kind, data)
  local limit, ttl = string.match(arg.events, ' (%d+) (%d+)')
  redis.pcall('XADD', key.events, 'MAXLEN', '~', limit, '*', 'at', ms(now), 'type', kind, 'data', data)
  redis.pcall('PEXPIRE', key.events, ttl)
end

-- A JSON list of pairs: type, data.
local function tell_all(news)
  for _, one in ipairs(cjson.decode(news)) do tell(one[1], one[2]) end
end

-- The message ids in a list of packed messages; '' stands for a cancelled one.
local function ids_of(entries)
  local ids = {}
  for i = 1, #entries do
    if entries[i] ~= '' then ids[#ids + 1] = cjson.decode(entries[i]).id end
  end
  return ids
end
