"""The report: what all records say, as one HTML file that needs nothing else, and as Markdown.

`gather` turns contracts and records into the frozen data of `data`; `pictures` gives the geometry of what is
drawn; `render` and `markdown` write. No markup is made in Python: templates escape all they are given.
"""
