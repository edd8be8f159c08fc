"""Finding images by text and texts by image: an image has any number of captions, and a caption may fit several."""
