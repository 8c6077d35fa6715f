-- Event `refuse`: the batch is not interrupted; the messages that wait are answered after it.
-- KEYS: thread over events feed
-- ARGV: now token reason over_ms events
-- Returns {'ok'} or {'lost'}: nothing has changed
-- over: of this very call. A second one changes nothing: there may be another wish since.
--! include common events wish
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'ok'} end
local t = read_thread()
if not holds(t) then return {'lost'} end
if wish_of(t) ~= 'interrupt' then return {'ok'} end
redis.call('HDEL', key.thread, 'wish')
if is_watched() then
  publish('interrupt_refused', cjson.encode({batch_id = t.batch, reason = arg.reason}))
end
return {'ok'}
