-- Event `typing`: somebody types. A sliding window that is open stays so for a while; a thread on which nothing waits stays as it is.
-- KEYS: thread due scheduled queue queues job events
-- ARGV: now thread_id author hold_ms coalesce_ms window max_wait_ms tick function origin stamp job_id events
-- Returns {'moved', ms when the window ends now} or {'still'}: no window has changed
-- core/window.py has the rule in Python.
--! include common wakeup events
local t = read_thread()
local until_ms = now + tonumber(arg.hold_ms)
local due
if arg.window == 'sliding' and t.n > 0 and tonumber(t.own_due) > now then
  local held = math.min(until_ms, tonumber(t.first) + tonumber(arg.max_wait_ms))
  if held > tonumber(t.own_due) then due = held end
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
if listened() then
  -- Told once for a while, however often it is said; a repeated call whose reply was lost is such a case.
  local last = redis.pcall('XREVRANGE', key.events, '+', '-', 'COUNT', 1)[1]
  local said = last and last[2][4] == 'typing' and cjson.decode(last[2][6])
  if not (said and said.author == arg.author and now - tonumber(last[2][2]) < tonumber(arg.coalesce_ms)) then
    tell('typing', cjson.encode({author = arg.author, ['until'] = ms(until_ms)}))
  end
  if due then tell('window_moved', cjson.encode({due = ms(due), pending = t.n})) end
end
if due then return {'moved', ms(due)} end
return {'still'}
