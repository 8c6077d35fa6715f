-- Read: events after an id, at most `count`, and the ids of the oldest and newest one.
-- KEYS: stream
-- ARGV: after count
-- Returns {id of the oldest entry or '', id of the newest or '', {entries}}; nothing changes
-- stream: `events` of a thread, or `feed`.
local oldest = redis.call('XRANGE', key.stream, '-', '+', 'COUNT', 1)
if #oldest == 0 then return {'', '', {}} end
local newest = redis.call('XREVRANGE', key.stream, '+', '-', 'COUNT', 1)
local entries = redis.call('XRANGE', key.stream, '(' .. arg.after, '+',
  'COUNT', tonumber(arg.count))
return {oldest[1][1], newest[1][1], entries}
