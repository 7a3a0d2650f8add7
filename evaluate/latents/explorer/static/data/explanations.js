// What `scopeworks latents explain` and `score` say; they write this file again.
scopeworks.explanations({});
