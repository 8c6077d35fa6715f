-- Event `progress`: the batch advanced. Written before a request is sent and as soon as an id is
-- known.
-- KEYS: thread events feed *messages
-- ARGV: now token number phase progress batch_id run_id new_events events
-- Returns {'ok', '1' if the thread has subscribers or '', the kind of wish for the batch or ''} or
--         {'lost'}: nothing has changed
-- The messages given are marked as members of this batch. run_id: of the current run, or ''.
-- new_events: further events to publish, a JSON list of pairs of type and data, or ''. A late copy
-- changes nothing, and gets the same reply as the first call.
--! include common events wish compact
local t = read_thread()
if not holds(t) then return {'lost'} end
if is_late(t.number) then return {'ok', has_subscribers() and '1' or '', wish_of(t)} end
-- The same phase and progress: the caller sends them again under another number.
local is_new = t.phase ~= arg.phase or t.progress ~= arg.progress
if is_new then redis.call('HSET', key.thread, 'deaths', '0') end
redis.call('HSET', key.thread,
  'phase', arg.phase, 'progress', arg.progress, 'number', arg.number)
for i = 1, rest_count do redis.call('HSET', rest_key(i), 'batch', arg.batch_id) end
if is_new and is_watched() then
  if arg.run_id ~= '' and not is_run_of(t.progress or '', arg.run_id) then
    publish('run_started', cjson.encode({batch_id = arg.batch_id, run_id = arg.run_id}))
  end
  if arg.new_events ~= '' then publish_all(arg.new_events) end
end
return {'ok', has_subscribers() and '1' or '', wish_of(t)}
