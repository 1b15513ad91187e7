"use client";

import { useRouter } from "next/navigation";
import { useEffect } from "react";

/** Reloads the page every second while it is shown. */
export function Refresh() {
  const router = useRouter();
  useEffect(() => {
    const timer = setInterval(() => router.refresh(), 1000);
    return () => clearInterval(timer);
  }, [router]);
  return <p role="status">Your plan is being made…</p>;
}
