"""Drawing tools: random choices, canvas, camera, shapes, textures, order of drawing, sensor."""
