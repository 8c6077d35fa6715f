-- Event `tell`: those who listen get pieces of a run's text; how much they have is stored in the same step, for the next holder.
-- KEYS: thread events
-- ARGV: now token number told news events
-- Returns {'ok', '1' if somebody listens or ''} or {'lost'}: nothing has changed
-- told: how much they have after this, opaque here. news: a JSON list of pairs of type and data.
--! include common events
local t = read_thread()
if not holds(t) then return {'lost'} end
if not listened() then return {'ok', ''} end
if t.told ~= arg.told and not is_late(t, 'piece') then -- else the same call again: its reply was lost
  tell_all(arg.news)
  redis.call('HSET', key.thread, 'told', arg.told, 'piece', arg.number)
end
return {'ok', '1'}
