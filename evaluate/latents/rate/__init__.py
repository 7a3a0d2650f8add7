"""People's ratings of latents: a page that hides whose latents they are, answers, agreement."""
