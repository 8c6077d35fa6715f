-- What every script shares: the glossary, the time, the thread's hash and the counters.
--
-- A script's header is its contract. `KEYS:` and `ARGV:` name what comes in, in order, and `store/scripts.py` turns them into the tables
-- `key` and `arg`; a name with a star takes all that remain, as `rest_key(i)`.
--
-- Keys of ours (all under the prefix; store/keys.py has their lifetimes)
--   thread        hash    one thread that is not idle; fields below
--   pending       list    its waiting messages, packed, oldest first; '' where one was cancelled
--   frozen        list    the messages of its current batch, packed, in order
--   conversation  hash    id, anchor, open: the provider's side of the thread; outlives idleness
--   message       hash    thread, seq, rev, digest, nonce, due, job, batch, state, cancelled_by, edited_by, returned_by, entry: the record of one message
--   record        hash    thread, state, token, discarded_by, result ...: what became of a batch
--   over          string  present while a copy of a call that has had its effect may still be on its way
--   delivery      string  open, done: a call of `on_reply` that was given up, and goes on or has returned
--   dead          list    the messages of a failed batch, packed
--   due           zset    thread id -> ms by which somebody must have looked at it
--   failed        zset    batch id -> ms when it failed
--   counters      hash    delayed, waiting, active, completed, failed: messages; taken: `queued` of the wake-up that was taken last
--   paused        string  present while the whole queue is paused; ms since when, opaque here
--   events        stream  what happened to the thread: at (ms), type, data (JSON); there only while somebody listens
-- Keys of RQ
--   scheduled     zset    job id -> seconds;  queue  list of job ids;  queues  set of queue keys;  job  hash
--
-- Fields of thread
--   state    pending, active, retrying or held (core/thread_state.py has the table)
--   due      ms from which the thread may be claimed      wake     id of its outstanding wake-up
--   n        waiting messages                             head     sequence number of the first entry of `pending`
--   first    ms when the oldest of them came              own_due  ms when they are due by their own window
--   pk       the counter they are booked in               bk       the counter the batch is booked in
--   batch    id of the frozen batch                       bn       its number of messages
--   phase    how far it got                               progress what is known of it, JSON, opaque here
--   token    the lease; absent when nobody holds it       until    ms when it lapses
--   deaths   leases lapsed in this phase                  last     the token that gave the thread back last
--   number   of the holder's last write                   piece    number of the holder's last piece of text
--   past     tokens that held the thread before, newest first, a few of them
--   claimed  ms of the first claim of the batch           paused   1 while this thread is paused
--   queued   ms when its wake-up was handed over            told     how much of the run's text those who listen have, JSON, opaque here

local function clock()
  if arg.now ~= '' then return tonumber(arg.now), 0 end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[2] % 1000
end
local now, micros = clock() -- every decision is made in whole ms; the rest is for timers that sleep until the next one

local function ms(number) return string.format('%.0f', number) end

-- `fields` is what the check in front of the script has read (_sound.lua).
local function read_thread()
  local t = fields
  t.n = tonumber(t.n or 0)
  t.head = tonumber(t.head or 1)
  t.bn = tonumber(t.bn or 0)
  return t
end

local function add_to(counter, count)
  if type(redis.pcall('HINCRBY', key.counters, counter, count)) ~= 'number' then
    redis.log(redis.LOG_WARNING, key.counters .. ' held no number for ' .. counter .. '; it begins anew')
    redis.call('HSET', key.counters, counter, math.max(count, 0))
  end
end

-- Counters are kept, never scanned: every script that changes what a message is moves it from one to another.
local function book(from, to, count)
  if count == 0 or from == to then return end
  if from and from ~= '' then add_to(from, -count) end
  if to and to ~= '' then add_to(to, count) end
end

-- The holder's writes are refused when it is not the holder any more. A token is compared for equality: a counter
-- would go backwards when a replica is promoted.
local function holds(t) return t.token ~= nil and t.token == arg.token end

-- A holder numbers its writes, and sends each when the one before has been answered. One that arrives after a later one is a late copy of
-- a call that has had its effect: it must not set the batch back to where it was then. `field` remembers the highest number.
local function is_late(t, field) return tonumber(arg.number) <= tonumber(t[field] or '0') end
