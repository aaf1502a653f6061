/** A value that is there, or will be: where nothing has to be waited for, nothing turns asynchronous. */
export type Pending<T> = T | Promise<T>;

/** Goes on with a value as soon as it is there; at once, if it is. */
export function after<T, R>(value: Pending<T>, goOn: (value: T) => Pending<R>): Pending<R> {
  return value instanceof Promise ? value.then(goOn) : goOn(value);
}
