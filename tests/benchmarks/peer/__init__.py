"""The same work by this package and by the TypeScript library that it follows, in turns."""
