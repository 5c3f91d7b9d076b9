export function greet(name) {
  return `Grüße, ${name}! ✓`;
}
