"""What formats share: `reading` within bounds, `npz` files, `names` of sites and folders, and the
`folding` of other kinds of SAE."""
