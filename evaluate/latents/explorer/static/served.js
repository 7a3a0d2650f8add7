// What a server says of itself: `scopeworks latents serve` answers with its own words here.
