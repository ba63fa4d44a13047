-- One user after another, in each request the next, by a header.
--
--     wrk ... -s users.lua URL -- COUNT

local requests = {}
local last = 0


function init(args)
   for i = 1, tonumber(args[1]) do
      requests[i] = wrk.format(nil, nil, {
         ["Host"] = wrk.headers["Host"],
         ["X-User"] = string.format("user_%06d", i)
      })
   end
end


function request()
   last = last % #requests + 1

   return requests[last]
end
