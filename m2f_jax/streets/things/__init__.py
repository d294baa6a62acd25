"""The things in a street: buildings, plants, furniture, signs, people and vehicles."""
