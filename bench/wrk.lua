-- Sends the requests of a file (see requests.py) in their order, from an offset on.
local requests, at = {}, 0

function init(args)
   local file = assert(io.open(args[1], "rb"))
   while true do
      local size = file:read("*n")
      if not size then break end
      file:read(1)
      requests[#requests + 1] = file:read(size)
   end
   file:close()
   at = tonumber(args[2]) % #requests
end

function request()
   at = at % #requests + 1
   return requests[at]
end
