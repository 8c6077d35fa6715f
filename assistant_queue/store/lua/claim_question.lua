-- Event `claim`, of a question: a worker asks about an open call on its channel, or shows there how
-- it was settled.
-- KEYS: thread call questions
-- ARGV: now call_id token lease_ms expected
-- Returns {'ask' or 'show', now, tries, deaths, sent, verdict, settled, at, until, batch, ask and its
--             pieces ...}; what is not known is ''
--         {'over'}: nothing is left to be done
--         {'changed'}: it is not due at `expected` any more; nothing has changed
-- A second call with the token that holds it returns the same. Nothing is asked about a call that was
-- settled meanwhile, or is known to be asked; nothing is shown of one that was never asked, or twice.
--! include common compact
local known = redis.call('HMGET', key.call, 'asker', 'sent', 'tries', 'asker_deaths', 'verdict',
  'settled', 'batch', 'at', 'until', 'ask', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7', 'shown')
local asker, sent = known[1], known[2]
local score = redis.call('ZSCORE', key.questions, arg.call_id)
local t = read_thread()
local is_open = known[10] and not known[6] and is_of(t.batch, known[7])
local function claimed(deaths)
  local reply = {is_open and 'ask' or 'show', ms(now), known[3] or '0', deaths, sent or '',
    known[5] or '', known[6] or '', known[8] or '', known[9] or '', t.batch or ''}
  for i = 10, 17 do reply[#reply + 1] = known[i] or '' end
  return reply
end
if not score then return {'changed'} end
if asker == arg.token then return claimed(known[4] or '0') end
if tonumber(score) ~= tonumber(arg.expected) or tonumber(score) > now
    or asker == '-' .. arg.token then
  return {'changed'}
end
if (is_open and sent) or (not is_open and sent == known[18]) then
  redis.call('ZREM', key.questions, arg.call_id)
  redis.call('HDEL', key.call, 'asker', 'tries', 'asker_deaths')
  return {'over'}
end
local deaths = known[4] or '0'
if asker and string.sub(asker, 1, 1) ~= '-' then deaths = ms(tonumber(deaths) + 1) end
redis.call('HSET', key.call, 'asker', arg.token, 'asker_deaths', deaths)
redis.call('ZADD', key.questions, ms(now + tonumber(arg.lease_ms)), arg.call_id)
return claimed(deaths)
