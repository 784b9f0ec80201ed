"""The dashboard: pages that are made on the server, of what the translation log is asked.

`pages` has its routes, `views` and `facts` what each page shows, `charts`, `sides` and `words` how
that is set out, `templates` and `static` how it looks.
"""
