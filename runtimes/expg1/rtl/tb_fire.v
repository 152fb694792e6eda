// Reads vectors of a bundle and compares: one FIRE per line of potential.hex.
module tb_fire;
    parameter N = 1;
    parameter K = 1;
    parameter DEPTH = 1;
    reg clk = 0;
    reg start = 0;
    reg signed [63:0] potentials [0:N-1];
    reg [31:0] tables [0:N-1];                 // first threshold of each element
    reg signed [63:0] thresholds [0:K-1];
    reg [31:0] counts [0:0];
    reg [31:0] expected [0:N-1];
    reg signed [63:0] potential;
    reg [31:0] base;
    wire [DEPTH-1:0] index, place;
    wire done;
    wire signed [63:0] threshold = thresholds[(base + index < K) ? base + index : K-1];
    integer i, errors = 0;

    expg1_fire #(.DEPTH(DEPTH)) dut (
        .clk(clk), .start(start), .potential(potential), .count(counts[0][DEPTH-1:0]),
        .index(index), .threshold(threshold), .place(place), .done(done));
    always #1 clk = ~clk;

    initial begin
        $readmemh("potential.hex", potentials);
        $readmemh("table.hex", tables);
        $readmemh("threshold.hex", thresholds);
        $readmemh("count.hex", counts);
        $readmemh("place.hex", expected);
        for (i = 0; i < N; i = i + 1) begin
            potential = potentials[i];
            base = tables[i];
            @(negedge clk) start = 1;
            @(negedge clk) start = 0;
            while (!done) @(negedge clk);
            if (place !== expected[i][DEPTH-1:0]) errors = errors + 1;
        end
        $display("fire: %0d vectors, %0d errors", N, errors);
        $finish;
    end
endmodule
