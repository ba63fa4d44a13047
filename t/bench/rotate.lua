-- One token after another, in each request the next.
--
--     wrk ... -s rotate.lua URL -- FILE COUNT FIRST
--
-- FILE has a token in each line; of its first COUNT, FIRST is where to begin.

local requests = {}
local last = 0


function init(args)
   local count = tonumber(args[2])
   local head, tail = wrk.format(nil, nil, {
      ["Host"] = wrk.headers["Host"],
      ["Authorization"] = "Bearer @"
   }):match("^(.*)@(.*)$")

   for token in io.lines(args[1]) do
      requests[#requests + 1] = head .. token .. tail

      if #requests == count then
         break
      end
   end

   last = tonumber(args[3]) % #requests
end


function request()
   last = last % #requests + 1

   return requests[last]
end
