/** Something the user can put right; its message is safe to print. Other errors' messages may quote a secret. */
export class Problem extends Error {
  override name = "SpanhookProblem";
}
