export const numbers = Array.from({ length: 10 }, (_, index) => index * index);
