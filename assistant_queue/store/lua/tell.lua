-- Event `tell`: publish pieces of a run's text, and store in the same step how much has been
-- published, for the next holder.
-- KEYS: thread events
-- ARGV: now token number told new_events events
-- Returns {'ok', '1' if the thread has subscribers or ''} or {'lost'}: nothing has changed
-- told: how much is published after this step, opaque here. new_events: a JSON list of pairs of
-- type and data.
--! include common events
local t = read_thread()
if not holds(t) then return {'lost'} end
if not has_subscribers() then return {'ok', ''} end
-- Else the same call again: its reply was lost.
if t.told ~= arg.told and not is_late(t.piece) then
  for _, one in ipairs(cjson.decode(arg.new_events)) do publish_to_subscribers(one[1], one[2]) end
  redis.call('HSET', key.thread, 'told', arg.told, 'piece', arg.number)
end
return {'ok', '1'}
