-- Event `typing`: a user types. An open sliding window stays open for a while; a thread without
-- waiting messages does not change.
-- KEYS: thread due scheduled queue queues job events feed
-- ARGV: now thread_id author hold_ms coalesce_ms window max_wait_ms tick function origin stamp
--       job_id events
-- Returns {'moved', ms when the window ends now} or {'still'}: no window has changed
-- core/window.py has the rule in Python.
--! include common wakeup events
local t = read_thread()
local until_ms = now + tonumber(arg.hold_ms)
local due
if arg.window ~= 'fixed' and t.n > 0 and tonumber(t.own_due) > now then
  local extended = math.min(until_ms, tonumber(t.first) + tonumber(arg.max_wait_ms))
  if extended > tonumber(t.own_due) then due = extended end
end
if due then
  redis.call('HSET', key.thread, 'own_due', ms(due))
  if not t.batch then
    redis.call('HSET', key.thread, 'due', ms(due))
    if not t.paused then
      redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
      redis.call('ZADD', key.due, ms(due), arg.thread_id)
    end
  end
end
local is_move_seen = due and is_watched()
if has_subscribers() then
  -- Published once per coalesce_ms and author; a call repeated after a lost reply is
  -- coalesced, too.
  local last = redis.pcall('XREVRANGE', key.events, '+', '-', 'COUNT', 1)[1]
  local said = last and last[2][4] == 'typing' and cjson.decode(last[2][6])
  if not (said and said.author == arg.author
      and now - tonumber(last[2][2]) < tonumber(arg.coalesce_ms)) then
    publish_to_subscribers('typing', cjson.encode({author = arg.author, ['until'] = ms(until_ms)}))
  end
end
if is_move_seen then
  publish('window_moved', cjson.encode({due = ms(due), pending = t.n}))
end
if due then return {'moved', ms(due)} end
return {'still'}
