"""Side-by-side measurements of the broker; `README.md` beside this file says how to read them."""
