-- Event `progress`: the batch got further. Written before a request leaves and as soon as an id is known.
-- KEYS: thread events *messages
-- ARGV: now token number phase progress batch_id run_id news events
-- Returns {'ok', '1' if somebody listens or ''} or {'lost'}: nothing has changed
-- The messages given are marked as being in this batch. run_id: of the run that goes on now, or ''. news: what else to tell, a JSON list of
-- pairs of type and data, or ''. A late copy changes nothing, and is answered as the first.
--! include common events
local t = read_thread()
if not holds(t) then return {'lost'} end
if is_late(t, 'number') then return {'ok', listened() and '1' or ''} end
local is_new = t.phase ~= arg.phase or t.progress ~= arg.progress -- if not, its caller has sent it again under another number
if is_new then redis.call('HSET', key.thread, 'deaths', '0') end
redis.call('HSET', key.thread, 'phase', arg.phase, 'progress', arg.progress, 'number', arg.number)
for i = 1, rest_count do redis.call('HSET', rest_key(i), 'batch', arg.batch_id) end
local is_heard = listened()
if is_heard and is_new then
  local known = t.progress and t.progress ~= '' and cjson.decode(t.progress).run_id
  if arg.run_id ~= '' and arg.run_id ~= known then tell('run_started', cjson.encode({batch_id = arg.batch_id, run_id = arg.run_id})) end
  if arg.news ~= '' then tell_all(arg.news) end
end
return {'ok', is_heard and '1' or ''}
