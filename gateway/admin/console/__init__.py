"""The console's files, as browsers get them: HTML, CSS and JavaScript modules, made by no build."""
