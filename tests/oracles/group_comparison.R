# R's own answers for tests/test_group_comparison.py: Rscript tests/oracles/group_comparison.R
# Data: R's datasets; Hollander and Wolfe, Nonparametric Statistical Methods, as in R's help pages of the tests.
options(digits = 12)
two <- function(name, x, y) {
  w <- suppressWarnings(wilcox.test(x, y, conf.int = TRUE))
  cat(name, w$statistic, w$p.value, w$estimate, w$conf.int, "\n")
}
more <- function(name, groups) {
  k <- kruskal.test(groups)
  cat(name, k$statistic, k$p.value, "\n")
}
two("water", c(0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46), c(1.15, 0.88, 0.90, 0.74, 1.21))
g <- split(PlantGrowth$weight, PlantGrowth$group)
two("plants", g$trt1, g$trt2)
two("plants_tied", g$ctrl, g$trt2)
s <- split(mtcars$mpg, mtcars$am)
two("cars", s[["0"]], s[["1"]])
more("plants", g)
more("mucociliary", list(c(2.9, 3.0, 2.5, 2.6, 3.2), c(3.8, 2.7, 4.0, 2.4), c(2.8, 3.4, 3.7, 2.2, 2.0)))
more("sprays", split(InsectSprays$count, InsectSprays$spray))
p <- c(0.01, 0.02, 0.03, 0.04, 0.05, 0.001, 0.9, 0.2)
cat("holm", p.adjust(p, "holm"), "\n")
cat("bh", p.adjust(p, "BH"), "\n")
cat("limits", qwilcox(0.025, c(3, 3, 4, 5, 5, 20, 49), c(3, 4, 4, 5, 10, 30, 49)), "\n")
