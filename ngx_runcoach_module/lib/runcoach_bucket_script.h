
/*
 * The same bucket as a script for Redis, for several keys at once: all are
 * loaded, all are checked, and only if all allow it all are written.
 *
 *     KEYS  one bucket for each policy
 *     ARGV  n, p, c and cost of each policy; then, for tests, a clock in us
 *
 * The reply is a flat array of integers: 1 or 0 for the whole, and for each
 * policy 1 or 0, the remaining tokens, retry in us (-1: never), and us until
 * full.  A key holds "deficit ts p" and lives until the bucket is full.
 *
 * What is not obvious:
 *
 * - time is that of Redis, the only clock all edges share;
 * - a denial writes nothing, so that a flood costs no replication, and denials
 *   work while writes are refused; but a clock that stepped back is followed
 *   at once, or the bucket would stand still;
 * - elapsed * n may be inexact above 2^53, where it only has to be larger than
 *   a deficit below 2^53, and is; all other numbers are exact, and dividing up
 *   is, because no quotient of a number below 2^53 can round across an integer;
 * - no "#!lua", an error before Redis 7; "%.0f", as tostring() gives 1.7e+15.
 */


#ifndef _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_
#define _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_


#define RUNCOACH_BUCKET_SCRIPT_ARGS     4
#define RUNCOACH_BUCKET_SCRIPT_RESULTS  4

#define RUNCOACH_BUCKET_SCRIPT                                                \
    "local max = 9007199254740992\n"                                          \
    "local now = tonumber(ARGV[#KEYS * 4 + 1])\n"                             \
    "if not now then\n"                                                       \
    "  local t = redis.call('TIME')\n"                                        \
    "  now = tonumber(t[1]) * 1000000 + tonumber(t[2])\n"                     \
    "end\n"                                                                   \
    "\n"                                                                      \
    "local function fetch(key, n, p)\n"                                        \
    "  local b = { deficit = 0, ts = now, stepped = false }\n"                \
    "  local v = redis.call('GET', key)\n"                                    \
    "  local d, ts, was = string.match(v or '', '^(%d+) (%d+) (%d+)$')\n"     \
    "  d, ts, was = tonumber(d), tonumber(ts), tonumber(was)\n"               \
    "  if not d or d == 0 or d >= max or ts >= max or was == 0 then\n"        \
    "    return b\n"                                                          \
    "  end\n"                                                                 \
    "  if was ~= p then d = math.min(math.ceil(d / was * p), max - 1) end\n"  \
    "  local elapsed = now - ts\n"                                            \
    "  if elapsed >= 0 then\n"                                                \
    "    d = math.max(d - elapsed * n, 0)\n"                                  \
    "  elseif elapsed < -1000000 then\n"                                      \
    "    b.stepped = true\n"                                                  \
    "  else\n"                                                                \
    "    b.ts = ts\n"                                                         \
    "  end\n"                                                                 \
    "  b.deficit = d\n"                                                       \
    "  return b\n"                                                            \
    "end\n"                                                                   \
    "\n"                                                                      \
    "local all, buckets = 1, {}\n"                                            \
    "for i = 1, #KEYS do\n"                                                   \
    "  local a = i * 4 - 3\n"                                                 \
    "  local n, p, c = tonumber(ARGV[a]), tonumber(ARGV[a + 1]),\n"           \
    "                  tonumber(ARGV[a + 2])\n"                               \
    "  local need = tonumber(ARGV[a + 3]) * p\n"                              \
    "  local b = fetch(KEYS[i], n, p)\n"                                       \
    "  b.n, b.p, b.c, b.need, b.ok, b.retry = n, p, c, need, 1, 0\n"          \
    "  local lack = b.deficit - (c - need)\n"                                 \
    "  if need > c then\n"                                                    \
    "    b.ok, b.retry = 0, -1\n"                                             \
    "  elseif lack > 0 then\n"                                                \
    "    b.ok, b.retry = 0, math.ceil(lack / n)\n"                            \
    "  end\n"                                                                 \
    "  if b.ok == 0 then all = 0 end\n"                                       \
    "  buckets[i] = b\n"                                                      \
    "end\n"                                                                   \
    "\n"                                                                      \
    "local reply = { all }\n"                                                 \
    "for i = 1, #KEYS do\n"                                                   \
    "  local b = buckets[i]\n"                                                \
    "  local taken = all * b.need\n"                                          \
    "  b.deficit = b.deficit + taken\n"                                       \
    "  if taken > 0 or b.stepped then\n"                                      \
    "    local ms = math.ceil(b.deficit / b.n / 1000) + 1\n"                  \
    "    redis.call('SET', KEYS[i],\n"                                        \
    "      string.format('%.0f %.0f %.0f', b.deficit, b.ts, b.p),\n"          \
    "      'PX', string.format('%.0f', ms))\n"                                \
    "  end\n"                                                                 \
    "  local r = #reply\n"                                                    \
    "  reply[r + 1] = b.ok\n"                                                 \
    "  reply[r + 2] = math.max(math.floor((b.c - b.deficit) / b.p), 0)\n"     \
    "  reply[r + 3] = b.retry\n"                                              \
    "  reply[r + 4] = math.ceil(b.deficit / b.n)\n"                           \
    "end\n"                                                                   \
    "return reply\n"


#endif /* _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_ */
